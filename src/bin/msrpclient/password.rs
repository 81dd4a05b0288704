//! Where the password comes from.

use std::{fs, path::Path};

use secrecy::SecretString;

use super::exit::Failure;

/// The environment variable.
const VARIABLE: &str = "MSRP_PASSWORD";

/// From a file, else from the environment, else from the terminal without an echo.
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
