//! The end-to-end test: the whole system and a real browser.

use crate::{
    checkout::Checkout,
    command,
    error::Error,
    interrupt::Interrupt,
    need::{self, Need, Node},
    progress::Progress,
    services::{self, GATEWAY},
    session::Session,
    system,
    test::{Counts, Report, node_output},
    webui,
};

/// Brings the system up as `cargo xtask up` does, on the session's servers, and
/// runs the web UI's browser tests on it.
pub fn run(
    checkout: &Checkout,
    node: &Node,
    session: &mut Session,
    interrupt: &Interrupt,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), Error> {
    const NAME: &str = "browser test";
    if let Err(error) = need::provide(&[Need::Chromium], checkout, interrupt, progress) {
        if matches!(error, Error::Interrupted) {
            return Err(error);
        }
        report.skip(NAME, &error.to_string().replace('\n', " "));
        return Ok(());
    }
    let Some(chromium) = need::chromium() else { return Ok(()) };
    let url = report.prepare("system for the browser test", || {
        if !webui::is_built(checkout)? {
            webui::build(node, checkout, interrupt)?;
        }
        let port = session.instance.port(GATEWAY)?;
        let plan = services::plan(checkout, &mut session.instance, &session.urls, port)?;
        system::start_services(&mut session.instance, plan, interrupt, progress)?;
        Ok(format!("http://127.0.0.1:{port}"))
    })?;
    let Some(url) = url else {
        report.skip(NAME, "the system did not start");
        return Ok(());
    };
    report.step(NAME, |show| {
        let mut npm = node.npm(checkout);
        npm.args(["run", "test:browser"]).env("ASSETTRACK_URL", &url).env("CHROMIUM", &chromium);
        let mut counts = Counts::default();
        let status = command::run_lines(&mut npm, interrupt, |line| {
            show(line);
            if let Some(sum) = node_output::node(line) {
                counts += sum;
                if sum.skipped > 0 {
                    show(&format!(
                        "SKIPPED {} browser tests: marked as skipped in their source",
                        sum.skipped
                    ));
                }
            }
        })?;
        Ok(counts.confirmed(status.success(), false))
    })?;
    // The session stops them too, should we not come here.
    system::stop_services(&mut session.instance)
}
