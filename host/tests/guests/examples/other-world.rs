//! A component of another world: its `handle` has another type, and it wants a function of its host.

wit_bindgen::generate!({
    inline: "
        package tests:calculator;

        world calculator {
            import ask: func() -> u32;
            export handle: func(n: u32) -> u32;
        }
    ",
});

struct Component;

impl Guest for Component {
    fn handle(n: u32) -> u32 {
        n + ask()
    }
}

export!(Component);
