//! A private database for each test.

use std::{thread, time::Duration};

use tokio_postgres::NoTls;
use uuid::Uuid;

/// How long the server may take to answer a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An empty database of its own, dropped with this value, connections of others
/// included.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes an empty database on the server of `ASSETTRACK_TEST_DATABASE_URL`.
    ///
    /// # Panics
    /// When the variable is not set or the server refuses.
    pub async fn create() -> Self {
        let server = crate::required("ASSETTRACK_TEST_DATABASE_URL");
        let name = format!("test_{}", Uuid::new_v4().simple());
        // The name is ours, hexadecimal; an identifier cannot be bound.
        if let Err(error) = execute(&server, &format!("CREATE DATABASE {name}")).await {
            panic!("cannot create a test database on the server of ASSETTRACK_TEST_DATABASE_URL: {error}");
        }
        Self { server, name }
    }

    /// Connection URL of this database.
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }

    /// Opens a plain connection to this database, to look at what a service did.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn connect(&self) -> tokio_postgres::Client {
        match connect(&self.url()).await {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to the test database: {error}"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A thread of its own: the test's runtime may be ending, and blocks here.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(execute(&server, &statement)).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .join();
        // No panic in drop. The database stays behind until the server is wiped.
        match dropped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("cannot drop test database {}: {error}", self.name),
            Err(_) => eprintln!("cannot drop test database {}", self.name),
        }
    }
}

/// Opens a plain connection.
///
/// # Errors
/// The URL is wrong, or the server refuses or does not answer within 10 s.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.connect_timeout(CONNECT_TIMEOUT);
    let (client, connection) = config.connect(NoTls).await?;
    // Ends by itself once the client is gone.
    tokio::spawn(connection);
    Ok(client)
}

async fn execute(url: &str, statement: &str) -> Result<(), tokio_postgres::Error> {
    connect(url).await?.batch_execute(statement).await
}

/// The same server, user and parameters, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) = match url.split_once('?') {
        Some((base, parameters)) => (base, Some(parameters)),
        None => (url, None),
    };
    let authority_start = base.find("://").map_or(0, |at| at + 3);
    let server = match base[authority_start..].find('/') {
        Some(at) => &base[..authority_start + at],
        None => base,
    };
    match parameters {
        Some(parameters) => format!("{server}/{name}?{parameters}"),
        None => format!("{server}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Database, with_database};

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        let cases = [
            ("postgresql://u:p@127.0.0.1:5432/postgres", "postgresql://u:p@127.0.0.1:5432/x"),
            ("postgresql://u:p@127.0.0.1:5432", "postgresql://u:p@127.0.0.1:5432/x"),
            ("postgres://h/a?sslmode=disable", "postgres://h/x?sslmode=disable"),
            ("postgres://h?application_name=a/b", "postgres://h/x?application_name=a/b"),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "x"), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_database_is_private_and_goes_with_its_value() {
        let (first, second) = (Database::create().await, Database::create().await);
        first.connect().await.batch_execute("CREATE TABLE mine ()").await.unwrap();
        let seen = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'";
        let count: i64 = second.connect().await.query_one(seen, &[]).await.unwrap().get(0);
        assert_eq!(count, 0);

        let gone = first.name.clone();
        // Dropped although a client is still connected.
        let _client = first.connect().await;
        drop(first);
        let left = "SELECT count(*) FROM pg_database WHERE datname = $1";
        let count: i64 = second.connect().await.query_one(left, &[&gone]).await.unwrap().get(0);
        assert_eq!(count, 0);
    }
}
