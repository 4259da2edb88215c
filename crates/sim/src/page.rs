//! `GET /sim`: the statistics as a page for people.
//!
//! One file without anything from elsewhere. It is sent with the figures of the moment in it, and its script asks for
//! newer ones as long as it is open.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::fault::{Fault, Outcome};
use crate::reply::Reply;
use crate::shared::Shared;

const PAGE: &str = include_str!("page.html");
/// Where the page wants its first figures.
const FIGURES: &str = "\"FIGURES\"";

/// The page, with what it shows at first.
pub(crate) fn statistics(shared: &Shared) -> Reply {
    let figures = json!({
        "project": shared.oauth.account().project,
        "faults": Fault::ALL.map(|fault| json!({"name": fault.name(), "transient": fault.is_transient()})),
        "outcomes": Outcome::ALL.map(Outcome::name),
        "stats": shared.report(),
        "rates": shared.rates.seconds(),
        "messages": shared.messages.list(),
        "settings": &*shared.settings(),
    });
    let page = PAGE.replacen(FIGURES, &inside_a_script(&figures), 1);
    Reply {
        kind: "text/html; charset=UTF-8",
        ..Reply::text(StatusCode::OK, page)
    }
}

/// JSON that cannot end the script element which it stands in.
fn inside_a_script(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_its_figures_and_asks_nobody_else_for_anything() {
        assert_eq!(PAGE.matches(FIGURES).count(), 1);
        for foreign in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn figures_cannot_end_the_script_that_they_stand_in() {
        let text = inside_a_script(&json!({"token": "</script><script>alert(1)"}));
        assert!(!text.contains('<'), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["token"], "</script><script>alert(1)");
    }
}
