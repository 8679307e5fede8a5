;; Grows a table until it gets no more, and traps then; publishes nothing for an event without a payload.
(core module $guest
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
  (func (export "handle") (param $events i32) (param $count i32) (result i32)
    ;; The payload's length, in the first event.
    (if (i32.load offset=60 (local.get $events))
      (then
        (loop $again
          (br_if $again
            (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1))))
        (unreachable)))
    ;; One result, `ok` with an empty list: zeroes.
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (local.get $count))
    (i32.const 512)))
