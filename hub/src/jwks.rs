//! Keys of token providers: read again when their files change, and taken into use by themselves.
//!
//! No configuration is loaded for that and no snapshot published: shards look at a provider's keys with each token. A file that
//! cannot be read, or holds no good keys, leaves those before in use; it is told once for each content.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use figspan_model::jwt::{JwtProvider, MAX_JWKS};

/// The providers of the configuration in force.
#[derive(Debug, Default)]
pub(crate) struct Jwks {
    providers: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    provider: Arc<JwtProvider>,
    /// What was wrong with the file when it was last read.
    wrong: Option<String>,
}

/// What came of reading a file again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Renewed {
    /// Name of the provider.
    pub(crate) provider: String,
    /// Why its keys stay those before; `None`: others are in use now.
    pub(crate) wrong: Option<String>,
}

impl Jwks {
    pub(crate) fn new(providers: &[Arc<JwtProvider>]) -> Self {
        Self { providers: providers.iter().map(|provider| Watched { provider: Arc::clone(provider), wrong: None }).collect() }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.providers.iter().map(|watched| &*watched.provider.jwks_file)
    }

    /// Reads all files again; what is new, be it keys or a mistake.
    pub(crate) fn renew(&mut self) -> Vec<Renewed> {
        let renew = |watched: &mut Watched| {
            let file = &watched.provider.jwks_file;
            let keys = read(file).map_err(|error| error.to_string());
            let replaced = keys.and_then(|keys| watched.provider.replace(&keys).map_err(|error| error.to_string()));
            let (news, wrong) = match replaced {
                Ok(replaced) => (replaced, None),
                Err(why) => {
                    let wrong = Some(format!("{}: {why}; save what the provider's jwks_uri answers there", file.display()));
                    (wrong != watched.wrong, wrong)
                }
            };
            watched.wrong.clone_from(&wrong);
            news.then(|| Renewed { provider: watched.provider.name.to_string(), wrong })
        };
        self.providers.iter_mut().filter_map(renew).collect()
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(MAX_JWKS as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_JWKS {
        return Err(io::Error::other(format!("it has more than {MAX_JWKS} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_model::jwt::Terms;

    /// Public keys of P-256 pairs: RFC 7517, appendix A.1, and RFC 7515, appendix A.3.
    const KEYS: [(&str, &str); 2] = [
        ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
        ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
    ];

    fn jwks(index: usize) -> String {
        let (x, y) = KEYS[index];
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#)
    }

    #[test]
    fn other_keys_are_news_once_and_so_is_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let provider = JwtProvider::new("id".into(), Terms::default(), file.clone(), jwks(0).as_bytes()).unwrap();
        let first = *provider.keys().identity();
        let provider = Arc::new(provider);
        let mut watched = Jwks::new(&[Arc::clone(&provider)]);
        let mut news = |content: &str| {
            std::fs::write(&file, content).unwrap();
            watched.renew().into_iter().map(|renewed| renewed.wrong).collect::<Vec<_>>()
        };
        assert_eq!(news(&jwks(0)), []);
        let wrong = news("{\"keys\":[{\"kty\":");
        assert!(matches!(&wrong[..], [Some(why)] if why.contains("jwks.json: it is no JWK set")), "{wrong:?}");
        assert_eq!(news("{\"keys\":[{\"kty\":"), [], "once");
        assert_eq!(*provider.keys().identity(), first, "those before stay in use");
        assert!(news(&" ".repeat(MAX_JWKS + 1))[0].as_ref().unwrap().contains("more than"));
        assert_eq!(news(&jwks(1)), [None]);
        assert_ne!(*provider.keys().identity(), first);
        std::fs::remove_file(watched.files().next().unwrap()).unwrap();
        assert!(watched.renew()[0].wrong.as_ref().unwrap().contains("No such file"));
    }
}
