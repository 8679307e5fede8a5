;; Takes all memory that it gets, and then fills it (payload of 1 byte) or copies one half over the other (2 bytes), over
;; and over: long instructions, which no deadline interrupts. Publishes nothing for an event without a payload.
(core module $guest
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
  (func (export "handle") (param $events i32) (param $count i32) (result i32)
    (local $what i32) (local $half i32)
    (local.set $what (i32.load offset=60 (local.get $events)))
    (if (local.get $what)
      (then
        (loop $more
          (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (local.set $half (i32.mul (i32.shr_u (memory.size) (i32.const 1)) (i32.const 65536)))
        (loop $again
          (if (i32.eq (local.get $what) (i32.const 1))
            (then
              (memory.fill (i32.const 0) (i32.const 7) (i32.shl (local.get $half) (i32.const 1))))
            (else
              (memory.copy (local.get $half) (i32.const 0) (local.get $half))))
          (br $again))))
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (local.get $count))
    (i32.const 512)))
