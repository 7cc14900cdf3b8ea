//! Says to the compiler that this build is one for `shuttle`, without flags that would concern all other crates too.

fn main() {
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
