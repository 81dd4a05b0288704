//! The daemon as whoever keeps a machine sees it: command line, start-up mistakes, pid file,
//! privileges, logs, service manager. A real process each time.
//!
//! What needs root (namespaces, another user) says so and is passed over when the tests do not run
//! as root.

mod background;
mod check;
mod descriptors;
mod harness;
mod init_script;
mod logs;
mod mistakes;
mod privileges;
mod service;
mod stuck;
