;; Claims 2^32-1 of something that it doesn't have; of what, the payload's length says: 1 outputs, 2 results, 3 bytes of
;; a payload, 4 bytes of a topic. Publishes nothing for an event without a payload.
(core module $guest
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
  (func (export "handle") (param $events i32) (param $count i32) (result i32)
    (local $what i32)
    (local.set $what (i32.load offset=60 (local.get $events)))
    ;; The answer at 512: a list of one result at 1024.
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (local.get $count))
    (if (i32.eq (local.get $what) (i32.const 2))
      (then (i32.store (i32.const 516) (i32.const -1))))
    ;; The result: `ok` with a list of outputs at 2048.
    (i32.store (i32.const 1028) (i32.const 2048))
    (if (i32.eq (local.get $what) (i32.const 1))
      (then (i32.store (i32.const 1032) (i32.const -1))))
    (if (i32.ge_u (local.get $what) (i32.const 3))
      (then
        (i32.store (i32.const 1032) (i32.const 1))
        ;; The output: its topic, key and payload are options of a pointer and a length.
        (i32.store (if (result i32) (i32.eq (local.get $what) (i32.const 3))
            (then (i32.const 2072)) (else (i32.const 2048)))
          (i32.const 1))
        (i32.store (i32.const 2056) (i32.const -1))
        (i32.store (i32.const 2080) (i32.const -1))))
    (i32.const 512)))
