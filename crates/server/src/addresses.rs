//! What is checked of the database's addresses before anything is opened: a typing error must neither weaken the encryption nor bring a password to a log.

use bugle_store::DatabaseUrl;

/// The parameters that a PostgreSQL address may have.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Checks an address of the key `key`; the error names it and quotes nothing that may be a password.
pub(crate) fn check(key: &str, url: &DatabaseUrl) -> Result<(), String> {
    let text = url.expose();
    if text == "sqlite" || text.starts_with("sqlite:") {
        return Ok(());
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!(
            "{key}: expected sqlite, sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE, got something without ://"
        ));
    };
    if !matches!(scheme, "postgres" | "postgresql") {
        // Another scheme is refused by the store, which names it.
        return Ok(());
    }
    let Some((_, query)) = text.split_once('?') else {
        return Ok(());
    };
    let query = query.split('#').next().unwrap_or_default();
    query.split('&').filter(|pair| !pair.is_empty()).try_for_each(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameter(key, name, value)
    })
}

fn parameter(key: &str, name: &str, value: &str) -> Result<(), String> {
    if matches!(name, "sslmode" | "ssl-mode") {
        return if MODES.contains(&value.to_ascii_lowercase().as_str()) {
            Ok(())
        } else {
            Err(format!("{key}: sslmode: expected one of {}", MODES.join(", ")))
        };
    }
    if PARAMETERS.contains(&name) || name == "options" || name.starts_with("options[") || name.starts_with("options%5")
    {
        return Ok(());
    }
    // It may be the rest of a password that holds a ? itself.
    Err(format!(
        "{key}: what follows the ? has an unknown parameter: expected some of sslmode, sslrootcert, sslcert, sslkey, host, port, dbname, user, \
         password and options; a ? in a password is written %3F"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(url: &str) -> String {
        check("store.url", &DatabaseUrl::new(url)).unwrap_err()
    }

    #[test]
    fn typing_errors_name_the_key_and_show_no_password() {
        for url in [
            "SECRET",
            "u:SECRET@db/bugle",
            "postgres:u:SECRET@db/bugle",
            "postgres://u@db/bugle?pasword=SECRET",
            "postgres://u:x?SECRET@db/bugle",
            "postgres://u:SECRET@db/bugle?sslmod=require",
            "postgres://u:SECRET@db/bugle?sslmode=requires",
            "postgres://u:SECRET@db/bugle?sslmode=SECRET&sslrootcert=/ca",
        ] {
            let said = said(url);
            assert!(
                said.starts_with("store.url: ") && said.contains("expected") && !said.contains("SECRET"),
                "{url}: {said}"
            );
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for url in [
            "sqlite",
            "sqlite:/data/x?y.db",
            "postgres://u:p@db/bugle",
            "postgresql:///bugle?host=/run/postgresql&user=u",
            "postgres://u:p@db/bugle?sslmode=verify-full&sslrootcert=/ca.pem",
            "postgres://db/bugle?options[search_path]=bugle",
            "postgres://db/bugle?options=-c%20search_path%3Dbugle",
        ] {
            assert_eq!(check("store.url", &DatabaseUrl::new(url)), Ok(()), "{url}");
        }
    }
}
