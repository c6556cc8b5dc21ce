//! TLS toward RabbitMQ, Redis and the mail server: private roots, client certificates, renewals and faults.

mod faults;
mod own_rabbit;
mod pki;
mod rabbit;
mod redis;
mod settings;
