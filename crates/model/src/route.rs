//! Providers, platforms, and the pair of both.

use std::fmt;

/// Who delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Web Push (RFC 8030).
    WebPush,
    /// Huawei Push Kit.
    Hms,
}

impl Provider {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Fcm, Self::Apns, Self::WebPush, Self::Hms];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::WebPush => "webpush",
            Self::Hms => "hms",
        }
    }

    /// The provider of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }

    /// The number that stands for it in the database: 1 to 4.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Fcm => 1,
            Self::Apns => 2,
            Self::WebPush => 3,
            Self::Hms => 4,
        }
    }

    /// The provider of that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.code() == code)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a device runs on.
///
/// The wire knows `apns` (channel vocabulary) and `ios` (topic vocabulary) for the same thing; the registry keeps the
/// word that was registered, everything else treats both as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// Android.
    Android,
    /// iOS and its relatives.
    Ios,
    /// A browser.
    Web,
}

impl Platform {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Android, Self::Ios, Self::Web];

    /// The name in accounts and filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
            Self::Web => "web",
        }
    }

    /// The platform of a name on the wire; `apns` is another name of `ios`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "android" => Some(Self::Android),
            "ios" | "apns" => Some(Self::Ios),
            "web" => Some(Self::Web),
            _ => None,
        }
    }

    /// The number that stands for it in the database: 1 to 3.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Android => 1,
            Self::Ios => 2,
            Self::Web => 3,
        }
    }

    /// The platform of that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.code() == code)
    }
}

/// A provider and a platform: what a leg goes over, what a hold stops, what an account is kept for.
///
/// Raw tokens and native topics have a provider and no platform; ids that nobody knows have neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Route {
    /// Who delivers; `None` where the target is unknown.
    pub provider: Option<Provider>,
    /// What the device runs on; `None` for raw tokens, native topics and unknown targets.
    pub platform: Option<Platform>,
}

impl Route {
    /// The route of targets that nobody knows.
    pub const UNKNOWN: Self = Self {
        provider: None,
        platform: None,
    };

    /// The route of a registered device.
    #[must_use]
    pub fn of(provider: Provider, platform: Platform) -> Self {
        Self {
            provider: Some(provider),
            platform: Some(platform),
        }
    }

    /// The route of raw tokens and native topics.
    #[must_use]
    pub fn raw(provider: Provider) -> Self {
        Self {
            provider: Some(provider),
            platform: None,
        }
    }

    /// The number that stands for it in the database: four times the provider's plus the platform's, absent ones being 0.
    #[must_use]
    pub fn code(self) -> u8 {
        self.provider.map_or(0, Provider::code) * 4 + self.platform.map_or(0, Platform::code)
    }

    /// The route of that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let known = |part: u8, exists: bool| part == 0 || exists;
        let (provider, platform) = (code / 4, code % 4);
        let route = Self {
            provider: Provider::from_code(provider),
            platform: Platform::from_code(platform),
        };
        (known(provider, route.provider.is_some()) && known(platform, route.platform.is_some())).then_some(route)
    }

    /// The provider's name, or the empty text.
    #[must_use]
    pub fn provider_str(self) -> &'static str {
        self.provider.map_or("", Provider::as_str)
    }

    /// The platform's name, or the empty text.
    #[must_use]
    pub fn platform_str(self) -> &'static str {
        self.platform.map_or("", Platform::as_str)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider_str(), self.platform_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_survives_its_code() {
        let providers = Provider::ALL.map(Some).into_iter().chain([None]);
        for provider in providers {
            for platform in Platform::ALL.map(Some).into_iter().chain([None]) {
                let route = Route { provider, platform };
                assert_eq!(Route::from_code(route.code()), Some(route));
            }
        }
        assert_eq!(Route::from_code(20), None);
        assert_eq!(Route::from_code(255), None);
    }
}
