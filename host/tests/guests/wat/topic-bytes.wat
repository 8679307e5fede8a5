;; Publishes to a topic whose name is no UTF-8; nothing for an event without a payload.
(core module $guest
  (memory (export "memory") 1)
  (data (i32.const 256) "or\ffders")
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
  (func (export "handle") (param $events i32) (param $count i32) (result i32)
    ;; The answer at 512: a list of one result at 1024, which is `ok` with a list of outputs at 2048.
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (local.get $count))
    (i32.store (i32.const 1028) (i32.const 2048))
    (if (i32.load offset=60 (local.get $events))
      (then (i32.store (i32.const 1032) (i32.const 1))))
    ;; The output's topic: there is one, its pointer and its length.
    (i32.store (i32.const 2048) (i32.const 1))
    (i32.store (i32.const 2052) (i32.const 256))
    (i32.store (i32.const 2056) (i32.const 7))
    (i32.const 512)))
