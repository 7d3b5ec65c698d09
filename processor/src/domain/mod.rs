//! The rules, pure: no transport, no driver.

pub mod affected;
pub mod attributes;
pub mod changes;
pub mod completeness;
pub mod feed;
pub mod differences;
pub mod filter;
pub mod fold;
pub mod image;
pub mod managed;
pub mod page_token;
pub mod refold;
pub mod watched;
pub mod relations;
pub mod version;
