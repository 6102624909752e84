//! A password's SCRAM secret, as PostgreSQL makes it.

use std::process::Command;

use super::battery::missing;

/// Has PostgreSQL in single-user mode, in which it needs no socket, store a role's password, and reads what it stored.
/// `None`, after the reason was printed, where it is not installed.
pub(crate) fn of(password: &str) -> Option<String> {
    let Some(programs) = programs() else {
        missing("postgresql");
        return None;
    };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if root {
        // PostgreSQL does not run as root.
        let given = Command::new("chown").args(["-R", "postgres", directory.path().to_str().unwrap()]).status();
        assert!(given.is_ok_and(|status| status.success()));
    }
    let run = |program: &str, arguments: &[&str], input: &str| {
        let program = format!("{programs}/{program}");
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", &program]);
            command
        } else {
            Command::new(&program)
        };
        let script = directory.path().join("input");
        std::fs::write(&script, input).unwrap();
        command.args(arguments).current_dir(directory.path()).stdin(std::fs::File::open(script).unwrap());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    run("initdb", &["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-N"], "");
    let sql = format!(
        "CREATE ROLE tim LOGIN PASSWORD '{}'\nSELECT rolpassword FROM pg_authid WHERE rolname = 'tim'\n",
        password.replace('\'', "''")
    );
    let printed = run("postgres", &["--single", "-D", data, "postgres"], &sql);
    let (_, rest) = printed.split_once("SCRAM-SHA-256$").unwrap_or_else(|| panic!("{printed}"));
    rest.split('"').next().map(|rest| format!("SCRAM-SHA-256${rest}"))
}

/// Where Debian keeps the newest server's programs.
fn programs() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(format!("/usr/lib/postgresql/{newest}/bin"))
}
