//! The real program between real peers: nginx, curl, httpx, aiohttp, websockets, Node and Chromium.
//!
//! Everything runs on loopback, on ports from the kernel. Where a peer is missing the test says so and ends, or fails
//! where `CI` is `true`; `tools/peers` installs them all.

#[path = "peers/browser.rs"]
mod browser;
#[path = "peers/clients.rs"]
mod clients;
#[path = "peers/curl.rs"]
mod curl;
#[path = "peers/need.rs"]
mod need;
#[path = "peers/nginx.rs"]
mod nginx;
#[path = "peers/process.rs"]
mod process;
#[path = "peers/servers.rs"]
mod servers;
mod support;
