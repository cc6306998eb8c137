;; A module written by hand in WebAssembly text: no Rust, no SDK, nothing but the interface `wit/extract.wit` and the canonical
;; ABI. It copies one input to one output, batch by batch.

(module
  (import "lockgate:extract/source@1.0.0" "open"
    (func $open (param $name i32) (param $name_len i32) (param $result i32)))
  (import "lockgate:extract/source@1.0.0" "[method]scan.next"
    (func $next (param $scan i32) (param $result i32)))
  (import "lockgate:extract/source@1.0.0" "[resource-drop]scan"
    (func $drop (param $scan i32)))
  (import "lockgate:extract/sink@1.0.0" "write"
    (func $write (param $name i32) (param $name_len i32)
                 (param $rows i32) (param $columns i32) (param $columns_len i32) (param $result i32)))

  (memory (export "memory") 2)
  (data (i32.const 0) "diagnoses")
  (data (i32.const 16) "copied")
  (data (i32.const 32) "the host gave an error")

  ;; Results are at 64 and following: one byte that says ok or error, then what it is, from the fourth byte on.
  ;; What the host hands over lies from 128 on; each batch takes the place of the one before.
  (global $free (mut i32) (i32.const 128))

  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    ;; Rounded up to the alignment, which is a power of two.
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $free) (i32.shl (memory.size) (i32.const 16))))
      ;; Grown by what is missing, in pages of 64 KiB; where the manifest allows no more, the run ends here.
      (br_if $enough
        (i32.ne
          (memory.grow
            (i32.shr_u
              (i32.add (i32.sub (global.get $free) (i32.shl (memory.size) (i32.const 16))) (i32.const 65535))
              (i32.const 16)))
          (i32.const -1)))
      (unreachable))
    (local.get $at))

  (func (export "run") (result i32)
    (local $scan i32)
    (call $open (i32.const 0) (i32.const 9) (i32.const 64))
    (if (i32.load8_u (i32.const 64)) (then (return (call $failed))))
    (local.set $scan (i32.load (i32.const 68)))
    (loop $batches
      (global.set $free (i32.const 128))
      (call $next (local.get $scan) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (return (call $failed))))
      ;; A batch, or none at the end.
      (if (i32.load8_u (i32.const 68))
        (then
          (call $write (i32.const 16) (i32.const 6)
            (i32.load (i32.const 72)) (i32.load (i32.const 76)) (i32.load (i32.const 80))
            (i32.const 64))
          (if (i32.load8_u (i32.const 64)) (then (return (call $failed))))
          (br $batches))))
    (call $drop (local.get $scan))
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.const 64))

  ;; The error that `run` returns: a text of 22 bytes.
  (func $failed (result i32)
    (i32.store8 (i32.const 64) (i32.const 1))
    (i32.store (i32.const 68) (i32.const 32))
    (i32.store (i32.const 72) (i32.const 22))
    (i32.const 64)))
