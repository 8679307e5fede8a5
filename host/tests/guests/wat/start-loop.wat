;; Never comes out of its start-up, so that no event ever reaches it.
(core module $guest
  (memory (export "memory") 1)
  (func $spin (loop $again (br $again)))
  (start $spin)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
  (func (export "handle") (param i32 i32) (result i32) (unreachable)))
