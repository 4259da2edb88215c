//! The commands of `docs/api.md`, run from top to bottom.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Api, KEY};

/// One command and what the page says that it answers, one text per line of the answer.
struct Example {
    path: String,
    body: Option<String>,
    answers: Vec<Value>,
}

fn examples() -> Vec<Example> {
    let page = include_str!("../../../../docs/api.md");
    let mut blocks = page.split("```").skip(1).step_by(2).peekable();
    let mut found = Vec::new();
    while let Some(block) = blocks.next() {
        let Some(command) = block.strip_prefix("sh\n") else {
            continue;
        };
        let answer = blocks.next_if(|next| next.starts_with("json\n"));
        let answers = serde_json::Deserializer::from_str(answer.map_or("", |text| &text["json".len()..]));
        found.push(Example {
            path: between(command, "$BUGLE", '"').unwrap().to_owned(),
            body: between(command, "-d '", '\'').map(str::to_owned),
            answers: answers.into_iter().map(Result::unwrap).collect(),
        });
    }
    found
}

fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// The value with every text and number replaced by its type. The end of a push is left out: nobody sends here.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(key, _)| *key != "ended_at");
            Value::Object(
                members
                    .map(|(key, value)| (key.clone(), shape(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        leaf => leaf.clone(),
    }
}

async fn ask(api: &Api, example: &Example) -> Answer {
    let request = match &example.body {
        Some(_) => Request::post(&example.path),
        None => Request::get(&example.path),
    };
    let body = example.body.clone().unwrap_or_default();
    api.ask(request.header("x-api-key", KEY).body(Body::from(body)).unwrap())
        .await
}

#[tokio::test]
async fn every_command_of_the_page_answers_as_the_page_says() {
    let api = Api::new().await;
    let examples = examples();
    assert!(examples.len() >= 14, "only {} were found", examples.len());
    for example in examples {
        let answer = ask(&api, &example).await;
        assert_eq!(answer.status, StatusCode::OK, "{} {answer:?}", example.path);
        if example.answers.is_empty() {
            continue;
        }
        let real: Vec<Value> = serde_json::Deserializer::from_str(&answer.text)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            real.iter().map(shape).collect::<Vec<_>>(),
            example.answers.iter().map(shape).collect::<Vec<_>>(),
            "{} {:?}",
            example.path,
            example.body
        );
    }
}

#[tokio::test]
async fn every_method_is_on_the_page() {
    let page = include_str!("../../../../docs/api.md");
    for method in [
        "device_register",
        "device_remove",
        "device_restore",
        "device_list",
        "device_subscription_add",
        "device_subscription_remove",
        "device_subscription_list",
        "send_push_notification",
        "push_status",
        "cancel_push",
    ] {
        assert!(page.contains(&format!("### {method}\n")), "{method}");
        let known = Api::new().await.call(method, &json!({})).await;
        assert!(!known.text.contains("\"code\":104"), "{method}");
    }
}
