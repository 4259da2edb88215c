//! Devices: register, remove, list.

use std::collections::BTreeMap;

use bugle_model::{
    AppId, Device, DeviceDetails, DeviceFilter, DeviceId, DeviceSelector, Listing, Locale, Provider, Registration,
    TimeZone, Timestamp, Token,
};

use crate::check::{self, Words};
use crate::{Error, Limits, Result, Service, metrics};

/// A device's whole state, as its app declares it. Empty texts are absent.
#[derive(Debug, Clone, Default)]
pub struct RegisterDevice {
    /// The id that the app remembers.
    pub id: String,
    /// Who delivers; empty = `fcm`.
    pub provider: String,
    /// `apns`, `ios`, `android` or `web`.
    pub platform: String,
    /// What the provider knows it by.
    pub token: String,
    /// Whose it is.
    pub user: String,
    /// Free key-value pairs.
    pub meta: BTreeMap<String, String>,
    /// IANA name.
    pub timezone: String,
    /// Language tag.
    pub locale: String,
    /// Replaces the subscriptions of origin channel; `None` leaves them.
    pub channels: Option<Vec<String>>,
    /// Replaces the subscriptions of origin topic; `None` empties them if the provider is given, and leaves them otherwise.
    pub topics: Option<Vec<String>>,
}

/// Which devices to remove: those that any of the lists names.
#[derive(Debug, Clone, Default)]
pub struct RemoveDevices {
    /// By id.
    pub ids: Words,
    /// By token.
    pub tokens: Words,
    /// By user.
    pub users: Words,
}

/// Which devices: those that fit every list that is not empty.
#[derive(Debug, Clone, Default)]
pub struct DeviceWords {
    /// Ids.
    pub ids: Words,
    /// Providers.
    pub providers: Words,
    /// Platforms; `apns` and `ios` are one.
    pub platforms: Words,
    /// Tokens.
    pub tokens: Words,
    /// Users.
    pub users: Words,
    /// Channels; of a list of subscriptions: the subscriptions' own.
    pub channels: Words,
}

impl DeviceWords {
    pub(crate) fn checked(self, limits: &Limits) -> Result<DeviceFilter> {
        Ok(DeviceFilter {
            ids: self.ids.texts(limits)?,
            providers: self.providers.providers(limits)?,
            platforms: self.platforms.platforms(limits)?,
            tokens: self.tokens.texts(limits)?,
            users: self.users.texts(limits)?,
            channels: self.channels.texts(limits)?,
        })
    }
}

/// A list of devices that is asked for.
#[derive(Debug, Clone, Default)]
pub struct ListDevices {
    /// Which ones.
    pub filter: DeviceWords,
    /// The last id of the page before; empty = from the beginning.
    pub since: String,
    /// Another name of `since`.
    pub cursor: String,
    /// 0 = 100; more than 1 000 = 1 000.
    pub limit: i64,
    /// Read their channels too.
    pub with_channels: bool,
    /// Count all that match, too.
    pub count_total: bool,
}

impl Service {
    /// Creates or updates a device, by the rules of the API's table "Registering".
    pub async fn register_device(&self, app: &AppId, asked: RegisterDevice) -> Result<Device> {
        self.needs_registry()?;
        let registration = self.checked_registration(asked)?;
        let registered = self.store.register(app, registration, self.clock.now()).await?;
        let what = if registered.created { "created" } else { "updated" };
        ::metrics::counter!(metrics::REGISTRATIONS, "device" => what).increment(1);
        Ok(registered.device)
    }

    fn checked_registration(&self, asked: RegisterDevice) -> Result<Registration> {
        let limits = &self.limits;
        let id = match asked.id {
            id if id.is_empty() => None,
            id => Some(DeviceId::parse(id).map_err(Error::at("id"))?),
        };
        let provider_given = !asked.provider.is_empty();
        let provider = if provider_given {
            check::provider(&asked.provider).map_err(Error::at("provider"))?
        } else {
            Provider::Fcm
        };
        if provider == Provider::WebPush {
            let problem = "provider: web push subscriptions are not built yet";
            return Err(Error::Unavailable(problem.to_owned()));
        }
        let (platform, platform_word) = check::platform(&asked.platform).map_err(Error::at("platform"))?;
        let topics = asked.topics.or_else(|| provider_given.then(Vec::new));
        let channels_of =
            |field, names: Option<Vec<String>>| names.map(|names| check::channels(field, names, limits)).transpose();
        Ok(Registration {
            id,
            provider,
            platform,
            platform_word,
            token: Token::parse(&asked.token).map_err(Error::at("token"))?,
            user: check::user(asked.user, limits)?,
            meta: check::meta(asked.meta, limits)?,
            timezone: given(&asked.timezone, TimeZone::parse).map_err(Error::at("timezone"))?,
            locale: given(&asked.locale, Locale::parse).map_err(Error::at("locale"))?,
            channels: channels_of("channels", asked.channels)?,
            topics: channels_of("topics", topics)?,
        })
    }

    /// Removes devices with their subscriptions. Unknown ones are no error.
    ///
    /// Long lists go in steps: a failure of the database leaves the steps before it done.
    pub async fn remove_devices(&self, app: &AppId, asked: RemoveDevices) -> Result<()> {
        self.needs_registry()?;
        if asked.ids.is_empty() && asked.tokens.is_empty() && asked.users.is_empty() {
            return Err(Error::invalid(
                "ids",
                "at least one of ids, tokens, users must name something",
            ));
        }
        let which = DeviceSelector {
            ids: asked.ids.texts(&self.limits)?,
            tokens: asked.tokens.texts(&self.limits)?,
            users: asked.users.texts(&self.limits)?,
        };
        let removed = self.store.remove(app, &which).await?;
        ::metrics::counter!(metrics::REMOVALS).increment(removed);
        Ok(())
    }

    /// Puts devices back that were removed as dead at or after this moment, in Unix seconds. Answers how many came back.
    ///
    /// One whose id or token is in use again stays gone. In steps: a failure of the database leaves the steps before it done.
    pub async fn restore_devices(&self, app: &AppId, since: Option<i64>) -> Result<u64> {
        self.needs_registry()?;
        let since = since.ok_or_else(|| Error::invalid("since", "must be given, in Unix seconds"))?;
        let since = Timestamp::from_secs(since);
        if since.0 < 0 || since > self.clock.now() {
            return Err(Error::invalid(
                "since",
                "expected a moment in the past, in Unix seconds",
            ));
        }
        Ok(self.store.restore(app, since).await?)
    }

    /// Lists devices in the order of their ids.
    pub async fn list_devices(&self, app: &AppId, asked: ListDevices) -> Result<Listing<DeviceDetails>> {
        self.needs_registry()?;
        let filter = asked.filter.checked(&self.limits)?;
        let paging = check::paging(asked.since, asked.cursor, asked.limit, asked.count_total)?;
        Ok(self.store.devices(app, &filter, &paging, asked.with_channels).await?)
    }
}

/// Parses a text unless it is empty.
fn given<T>(
    text: &str,
    parse: impl FnOnce(&str) -> std::result::Result<T, bugle_model::Invalid>,
) -> std::result::Result<Option<T>, bugle_model::Invalid> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}
