//! A program in Rust: names are mangled.

use std::io::{BufRead, Write};

mod till {
    #[inline(never)]
    pub fn price(pieces: i64) -> i64 {
        std::hint::black_box(pieces * 10 + 1)
    }

    pub struct Till(pub i64);

    impl Till {
        #[inline(never)]
        pub fn total(&self, pieces: i64) -> i64 {
            std::hint::black_box(self.0) + price(pieces)
        }
    }
}

fn main() {
    println!("ready");
    let till = till::Till(100);
    for line in std::io::stdin().lock().lines() {
        let pieces = line.unwrap().parse().unwrap_or(0);
        println!("{} {}", till::price(pieces), till.total(pieces));
        std::io::stdout().flush().unwrap();
    }
}
