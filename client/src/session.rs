//! What every command shares: the global options, and the context, client and tenant they lead to.

use crate::exit::Failure;
use crate::output::Format;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tercet::client::{Client, Patience, Route};
use tercet::context::{Context, read_signing_key};
use tercet::sign::Signer;
use tercet_core::ids::{CloudId, TenantId};

/// How long a command tries, unless it waits for something or `--timeout` says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a command with `--wait` tries.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// The largest file that is read into memory, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// How to print data on stdout
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// The cluster's context.toml [default: $TERCET_CONTEXT, else the nearest .tercet/context.toml upwards]
    #[arg(long, global = true, value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// How long to try, such as 500ms, 30s or 5m
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Submit to this cloud first; read from this cloud alone
    #[arg(long, global = true, value_name = "CLOUD", value_parser = parse_cloud)]
    pub cloud: Option<CloudId>,
}

#[derive(Debug, Clone, Args)]
pub struct TenantArgs {
    /// The tenant [default: the context's]
    #[arg(long, value_name = "NAME", value_parser = parse_tenant)]
    pub tenant: Option<TenantId>,
}

#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    #[command(flatten)]
    pub tenant: TenantArgs,
    /// The tenant's signing key [default: tenants/NAME.key next to the context]
    #[arg(long, value_name = "FILE")]
    pub tenant_key: Option<PathBuf>,
}

impl Globals {
    pub fn is_json(&self) -> bool {
        self.output == Format::Json
    }

    pub fn context(&self) -> Result<Context, Failure> {
        let here = std::env::current_dir().map_err(|error| Failure::usage(format!("no working directory: {error}")))?;
        Ok(Context::find(self.context.as_deref(), &here)?)
    }

    pub fn client(&self, context: &Context, patience: Patience) -> Result<Arc<Client>, Failure> {
        Ok(Arc::new(Client::new(context, self.cloud.as_ref(), patience)?))
    }

    /// A client for a command that asks once.
    pub fn asking(&self) -> Result<(Context, Arc<Client>), Failure> {
        let context = self.context()?;
        let client = self.client(&context, Patience::interactive(self.timeout.unwrap_or(DEFAULT_TIMEOUT)))?;
        Ok((context, client))
    }

    /// Whom a reader asks: each cloud has its own view, so a named one is not replaced by another.
    pub fn reading(&self) -> Route {
        self.cloud.clone().map_or(Route::Any, Route::Only)
    }

    /// The cloud that a command is about, for commands that need one.
    pub fn required_cloud(&self, what: &str) -> Result<&CloudId, Failure> {
        self.cloud.as_ref().ok_or_else(|| Failure::usage(format!("{what}; say which with --cloud CLOUD")))
    }
}

impl TenantArgs {
    pub fn tenant(&self, context: &Context) -> Result<TenantId, Failure> {
        let named = self.tenant.clone().or_else(|| context.tenant.clone());
        named.ok_or_else(|| Failure::usage("which tenant? Pass --tenant NAME; the context names none"))
    }
}

impl SignArgs {
    pub fn signer(&self, context: &Context) -> Result<Signer, Failure> {
        let tenant = self.tenant.tenant(context)?;
        let key = match &self.tenant_key {
            Some(path) => Some(read_signing_key(path)?),
            None => context.signing_key(&tenant)?,
        };
        Ok(Signer::new(context.trust_bundle()?.genesis.fed_id(), tenant, key))
    }
}

/// Reads a file, or stdin if it is called `-`.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let why = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).map_err(why)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)
    };
    if read.map_err(why)? as u64 > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    tercet::duration::parse(text)
}

pub fn parse_cloud(text: &str) -> Result<CloudId, String> {
    CloudId::new(text).map_err(|error| error.to_string())
}

pub fn parse_tenant(text: &str) -> Result<TenantId, String> {
    TenantId::new(text).map_err(|error| error.to_string())
}
