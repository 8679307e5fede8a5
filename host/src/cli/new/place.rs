//! Where the new crate goes, and how it, its SDK and pipeline.toml find each other.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use miette::{IntoDiagnostic, WrapErr, miette};

use super::files;
use super::sdk::Sdk;

#[derive(Debug)]
pub(super) struct Place {
    /// The crate's, as the user would name it.
    pub(super) folder: PathBuf,
    pub(super) sdk: Sdk,
    /// The way from the crate's folder to the SDK's.
    pub(super) sdk_from_crate: String,
    /// The way from pipeline.toml's folder to the component.
    pub(super) component: String,
}

impl Place {
    pub(super) fn find(pipeline: &Path, name: &str, folder: Option<&Path>) -> miette::Result<Self> {
        let root = pipeline.parent().unwrap_or(Path::new(""));
        let components = root.join("components");
        let folder = match folder {
            // Without a `/` at its end, so that names can be made from it.
            Some(folder) => folder.components().collect(),
            None if components.is_dir() => components.join(name),
            None => root.join(name),
        };
        is_free(&folder)?;
        let sdk = sdk(&components.join("sdk"), &folder.with_file_name("wasmill-sdk"))?;
        let (Sdk::There(sdk_folder) | Sdk::ToMake(sdk_folder)) = &sdk;
        let sdk_from_crate = way(&folder, sdk_folder)?;
        let component = way(root, &folder.join(files::built(name)))?;
        Ok(Self { folder, sdk, sdk_from_crate, component })
    }
}

fn is_free(folder: &Path) -> miette::Result<()> {
    let problem = match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return if folder.file_name().is_some() { Ok(()) } else { Err(no_name(folder)) },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if folder.file_name().is_some() { Ok(()) } else { Err(no_name(folder)) };
        }
        Ok(false) => format!("{} is there, and not empty", folder.display()),
        Err(error) => format!("{} can't become the crate's folder: {error}", folder.display()),
    };
    Err(miette!(help = "name another one with --folder, or take another name", "{problem}"))
}

fn no_name(folder: &Path) -> miette::Report {
    miette!(help = "name the folder itself", "{:?} can't become the crate's folder", folder.display())
}

/// That of the pipeline's clone of Wasmill, or the one beside the crate.
fn sdk(of_clone: &Path, beside: &Path) -> miette::Result<Sdk> {
    if is_sdk(of_clone) {
        Ok(Sdk::There(of_clone.into()))
    } else if is_sdk(beside) {
        Ok(Sdk::There(beside.into()))
    } else if beside.exists() {
        Err(miette!(
            help = "move it, or have the crate made elsewhere with --folder",
            "the SDK would go to {}, and something else is there",
            beside.display()
        ))
    } else {
        Ok(Sdk::ToMake(beside.into()))
    }
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let manifest = manifest.parse::<toml_edit::DocumentMut>().unwrap_or_default();
    let name = manifest.get("package").and_then(|package| package.get("name"));
    name.and_then(|name| name.as_str()) == Some("wasmill-sdk")
}

/// The relative path from a folder to a file or another folder. Either may not be there yet.
fn way(from: &Path, to: &Path) -> miette::Result<String> {
    let real = |path: &Path| {
        real(path).into_diagnostic().wrap_err_with(|| format!("can't tell where {} is", path.display()))
    };
    let (from, to) = (real(from)?, real(to)?);
    let common = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(common)).collect();
    way.to_str().map(Into::into).ok_or_else(|| {
        miette!(help = "take a folder whose name is UTF-8", "{} can't stand in a TOML file", way.display())
    })
}

/// Without links and dots in the part of it that exists: `..` leads elsewhere from behind a link.
fn real(path: &Path) -> io::Result<PathBuf> {
    // The folder of a file that is named without one is empty.
    let absolute = std::path::absolute(Path::new(".").join(path))?;
    for there in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), absolute.strip_prefix(there)) {
            return Ok(real.join(rest));
        }
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_up_and_down_and_past_links() {
        let around = tempfile::tempdir().unwrap();
        let at = |path: &str| around.path().join(path);
        fs::create_dir_all(at("shop/components")).unwrap();
        std::os::unix::fs::symlink(at("shop/components"), at("linked")).unwrap();
        assert_eq!(way(&at("shop"), &at("shop/components/a/a.wasm")).unwrap(), "components/a/a.wasm");
        assert_eq!(way(&at("shop"), &at("alarm/a.wasm")).unwrap(), "../alarm/a.wasm");
        assert_eq!(way(&at("linked/a"), &at("sdk")).unwrap(), "../../../sdk");
    }
}
