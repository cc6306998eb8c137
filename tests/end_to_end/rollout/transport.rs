//! What stands between a site and its linker, and is neither.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lockgate_tests::http::FalseLinker;

use super::Trial;
use crate::TestResult;

#[test]
fn a_login_page_is_no_linker_and_passes() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "auto")?;
    site.command(&["run", "--no-push"])?.ok()?;
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 19\r\nconnection: close\r\n\r\n<h1>Sign in</h1>\r\n\r\n";
    let portal = FalseLinker::new(move |_| page.to_vec())?;
    use_linker(&site, &portal.url())?;
    let push = site.command(&["push"])?.expect(4)?;
    ensure!(push.stderr.contains("perhaps a proxy or a login page"), "{}", push.stderr);
    use_linker(&site, &trial.stage.linker.url())?;
    site.command(&["push"])?.ok()?;
    Ok(())
}

#[test]
fn a_linker_that_never_answers_is_given_up() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "auto")?;
    site.command(&["run", "--no-push"])?.ok()?;
    // It takes the connection, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    use_linker(&site, &format!("http://{}", silent.local_addr()?))?;
    let config = std::fs::read_to_string(site.config_path())?;
    std::fs::write(site.config_path(), config.replace("give-up-s = 20", "give-up-s = 1"))?;
    let started = Instant::now();
    site.command(&["push"])?.expect(4)?;
    // One attempt has its five seconds; the rule was two minutes for each.
    ensure!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    Ok(())
}

fn use_linker(site: &lockgate_tests::Site, url: &str) -> TestResult {
    let config = std::fs::read_to_string(site.config_path())?;
    let changed = config.lines().map(|line| match line.starts_with("url = ") {
        true => format!("url = \"{url}\"\n"),
        false => format!("{line}\n"),
    });
    Ok(std::fs::write(site.config_path(), changed.collect::<String>())?)
}
