//! Finds the password of an account.

use std::{fs, path::Path};

use secrecy::SecretString;

use super::exit::Failure;

/// Environment variable that may hold the password.
const VARIABLE: &str = "MSRP_PASSWORD";

/// Reads the password from the first line of `file` or, without a file, from the environment; else
/// asks on the terminal, without echo.
pub(crate) fn password(file: Option<&Path>, user: &str) -> Result<SecretString, Failure> {
    if let Some(file) = file {
        let text = fs::read_to_string(file)
            .map_err(|cause| Failure::Failed(format!("cannot read {}: {cause}", file.display())))?;
        return Ok(text.lines().next().unwrap_or_default().into());
    }
    if let Ok(password) = std::env::var(VARIABLE) {
        return Ok(password.into());
    }
    rpassword::prompt_password(format!("Password of {user}: ")).map(Into::into).map_err(|cause| {
        Failure::Failed(format!(
            "no password: give --password-file FILE or set {VARIABLE} (cannot ask: {cause})"
        ))
    })
}
