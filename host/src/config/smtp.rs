//! `smtp = "…"`: the URL of a mail server, or a folder.

use std::path::Path;

use lettre::transport::smtp::client::Certificate;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::plan::{MailPlan, Secret, SmtpEncryption, SmtpPlan, Trusted};

/// What is wrong, and what to write instead; neither quotes the URL, which may hold a password.
type Fault = (String, &'static str);

const FORMS: &str =
    "write \"smtp://host:25\", \"smtp://host:587?tls=required\", \"smtps://host:465\" or \"file:FOLDER\"";

pub(super) fn parse(
    text: &str,
    root: &Path,
    username: Option<String>,
    password: Option<String>,
) -> Result<MailPlan, Fault> {
    if let Some(folder) = text.strip_prefix("file:") {
        let folder = folder.strip_prefix("//").unwrap_or(folder);
        return match folder {
            "" => Err(("the folder has no name".into(), FORMS)),
            _ => match root.join(folder) {
                // One that is missing is made at the start.
                path if path
                    .ancestors()
                    .find(|place| place.exists())
                    .is_some_and(|place| !place.is_dir()) =>
                {
                    Err((
                        "there is a file where the folder should be".into(),
                        "name a folder; it is made if it is missing",
                    ))
                }
                path => Ok(MailPlan::Folder(path)),
            },
        };
    }
    let url = Url::parse(text).map_err(|error| (format!("not an SMTP URL: {error}"), FORMS))?;
    let host = url.host().ok_or(("the URL names no host".to_string(), FORMS))?;
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(("the URL has more than a host, a port and ?tls=".into(), FORMS));
    }
    let encryption = encryption(&url)?;
    let credentials = credentials(&url, username, password)?;
    // A URL of an unknown scheme leaves the host as written, an address included.
    let host = match host {
        Host::Domain(name) => percent_decode_str(name).decode_utf8_lossy().into_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let port = url.port().unwrap_or(match encryption {
        SmtpEncryption::Opportunistic => 25,
        SmtpEncryption::StartTls => 587,
        SmtpEncryption::Tls => 465,
    });
    let plan = SmtpPlan { host, port, encryption, credentials, ca: Trusted::default() };
    if plan.credentials.is_some() && encryption == SmtpEncryption::Opportunistic && !plan.is_local() {
        return Err((
            "the password could travel in the clear".into(),
            "demand encryption: smtps://…, or smtp://…?tls=required",
        ));
    }
    Ok(MailPlan::Smtp(plan))
}

/// Every certificate of a PEM file; an error when there is none, or a broken one.
pub(super) fn trusted(pem: String) -> Result<Trusted, &'static str> {
    const END: &str = "-----END CERTIFICATE-----";
    // One at a time: of several in one piece only the first would count.
    let certificates: Vec<_> = pem
        .split_inclusive(END)
        .filter(|one| one.ends_with(END))
        .map(|one| Certificate::from_pem(one.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_broken| "the file holds a broken certificate")?;
    if certificates.is_empty() {
        return Err("the file holds no certificate");
    }
    Ok(Trusted { pem, certificates })
}

fn encryption(url: &Url) -> Result<SmtpEncryption, Fault> {
    let mut tls = None;
    for (key, value) in url.query_pairs() {
        match &*key {
            "tls" => tls = Some(value),
            _ => return Err(("the URL has an unknown parameter; ?tls= is the only one".into(), FORMS)),
        }
    }
    match (url.scheme(), tls.as_deref()) {
        ("smtp", None | Some("opportunistic")) => Ok(SmtpEncryption::Opportunistic),
        ("smtp", Some("required")) => Ok(SmtpEncryption::StartTls),
        ("smtps", None) => Ok(SmtpEncryption::Tls),
        ("smtp", Some(_)) => Err(("tls= is neither \"required\" nor \"opportunistic\"".into(), FORMS)),
        ("smtps", Some(_)) => Err(("smtps:// is TLS from the start: it takes no tls=".into(), FORMS)),
        (_, _) => Err(("the URL's scheme is neither smtp nor smtps".into(), FORMS)),
    }
}

fn credentials(
    url: &Url,
    username: Option<String>,
    password: Option<String>,
) -> Result<Option<(String, Secret)>, Fault> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    // An empty one is a variable that was left empty: "${SMTP_PASSWORD:-}".
    let (username, password) = (username.filter(|u| !u.is_empty()), password.filter(|p| !p.is_empty()));
    let in_url = !url.username().is_empty() || url.password().is_some();
    let (username, password) = if in_url {
        if username.is_some() || password.is_some() {
            return Err(("credentials stand both in the URL and beside it".into(), "keep one of the two"));
        }
        (Some(url.username()).filter(|name| !name.is_empty()).map(decode), url.password().map(decode))
    } else {
        (username, password)
    };
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some((username, Secret::new(password)))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(("a user name without a password".into(), "give `password`, or no `username`"))
        }
        (None, Some(_)) => {
            Err(("a password without a user name".into(), "give `username`, or no `password`"))
        }
    }
}
