//! A database for each that is measured, on one server, by psql.

use std::process::Command;

use crate::{command, error::Error, servers::postgres::Server};

use super::wrong;

/// A database.
pub struct Database {
    server: Server,
    name: String,
}

impl Database {
    /// An empty one; what was there by that name goes.
    pub fn create(server: Server, name: &str) -> Result<Self, Error> {
        // Names are ours; an identifier cannot be bound.
        for statement in
            [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")]
        {
            command::output(server.psql("postgres").args(["--command", &statement]))?;
        }
        // What the last one left to be written must not be written now.
        command::output(server.psql("postgres").args(["--command", "CHECKPOINT"]))?;
        Ok(Self { server, name: name.to_owned() })
    }

    /// Its URL. Secret: it holds a password.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Runs psql on it.
    pub fn psql(&self) -> Command {
        self.server.psql(&self.name)
    }

    /// Checks that a query counts what it must.
    pub fn expect(&self, query: &str, expected: u64) -> Result<(), Error> {
        let counted = command::output(self.psql().args(["--command", query]))?;
        if counted.trim() == expected.to_string() {
            return Ok(());
        }
        Err(wrong(&format!("find {expected} by {query}: found {}", counted.trim())))
    }
}
