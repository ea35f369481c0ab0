//! Files that are written in one step, so that nobody ever sees a part of one and a failure leaves the former one whole.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::exit::{Exit, Failure};

/// Writes `text` to a file that only these may use: `0o600`, `0o644`.
///
/// # Errors
/// It cannot be written; the words name the file that was asked for, and no other.
pub fn write(file: &Path, text: &[u8], mode: u32) -> Result<(), Failure> {
    let written = try_write(file, text, mode);
    written.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write {}: {}", file.display(), said(&error)))
    })
}

fn try_write(file: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".bandy-").tempfile_in(folder)?;
    draft.write_all(text)?;
    draft.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    draft.persist(file).map_err(|error| error.error)?;
    Ok(())
}

/// What the system said, without the name of the draft, of which tempfile says it.
fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" at path \"").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_named_as_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write(&file, b"a", 0o600).unwrap();
        write(&file, b"b", 0o644).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"b");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let failure = write(&folder.path().join("no/file"), b"a", 0o600).unwrap_err();
        let place = folder.path().join("no/file");
        let said = format!("cannot write {}: No such file or directory (os error 2)", place.display());
        assert_eq!((failure.exit, failure.message), (Exit::Failed, said));
    }
}
