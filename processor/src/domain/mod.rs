//! The rules, pure: no transport, no driver.

pub mod attributes;
pub mod changes;
pub mod completeness;
pub mod feed;
pub mod filter;
pub mod fold;
pub mod image;
pub mod managed;
pub mod order;
pub mod page_token;
pub mod refold;
pub mod watched;
