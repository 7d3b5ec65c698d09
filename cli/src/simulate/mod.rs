//! Fleets that are not there: agents made up from a seed, which publish to the
//! real broker just as real ones do, and know what must come of it.

mod account;
mod agent;
mod assets;
mod commands;
mod corrupt;
mod dice;
mod lane;
mod message;
mod outbox;
mod pace;
mod pack;
mod parcel;
mod record;
mod run;
mod settings;

pub use account::{Expectation, KindExpectation, NodeExpectation, Report};
pub use run::{Outcome, SimulateError, run};
pub use settings::Settings;
