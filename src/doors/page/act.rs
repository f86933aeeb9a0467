//! What an operator can do from the page. Each deed is asked about first, by a GET that changes nothing; the form that
//! this shows carries a seal of the session and of the very deed, and its POST does it. Who did it is written down by
//! the engine, in the audit trail.

use super::form::{Fields, encoded};
use super::parts::{View, connection_path, facts, frame, id, is_link, or_dash, status};
use super::{Ask, Served, Told, VIEW_MAX, Who, refuse};
use crate::doors::admin::connections::decoded;
use crate::engine::webhooks::Webhooks;
use crate::engine::{Answer, AnswerBody, Errand};
use crate::policy::brake::PauseScope;
use crate::types::json::RawObject;
use crate::types::{ConnectionId, EventId};
use crate::vault::pauses::Pause;
use crate::vault::webhooks::Revived;
use crate::vault::{Actor, Connection, VaultError};
use maud::{Markup, html};

/// A deed, and what it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Asking Finch how the connection is.
    Introspect(ConnectionId),
    /// A link through which the customer renews the login.
    ReauthLink(ConnectionId),
    /// The end of the connection.
    Disconnect(ConnectionId),
    /// Offering a dead letter to the app again, or all of them.
    Replay(Option<EventId>),
    /// Stopping the calls of a customer, product or provider.
    Pause(PauseScope, String),
    /// Letting them go on.
    Resume(PauseScope, String),
}

/// What is asked before a deed is done.
struct Question {
    title: String,
    /// What will happen.
    what: Markup,
    /// What else has to be said.
    more: Markup,
    button: &'static str,
    is_final: bool,
}

impl Act {
    /// The deed behind a path and what is sent along.
    pub(super) fn of(path: &str, fields: &Fields) -> Option<Self> {
        if path == "/webhooks/replay" {
            return match fields.filled("id") {
                None => Some(Act::Replay(None)),
                Some(id) => EventId::new(id).ok().map(|id| Act::Replay(Some(id))),
            };
        }
        if let "/pauses/pause" | "/pauses/resume" = path {
            let scope = PauseScope::parse(fields.get("scope"))?;
            let name = fields.get("name").to_owned();
            return Some(if path.ends_with("pause") {
                Act::Pause(scope, name)
            } else {
                Act::Resume(scope, name)
            });
        }
        let (id, deed) = path.strip_prefix("/connections/")?.split_once('/')?;
        let id = ConnectionId::new(decoded(id)?).ok()?;
        match deed {
            "introspect" => Some(Act::Introspect(id)),
            "reauth-link" => Some(Act::ReauthLink(id)),
            "disconnect" => Some(Act::Disconnect(id)),
            _ => None,
        }
    }

    /// Where it is asked about, and done.
    pub(super) fn path(&self) -> String {
        match self {
            Act::Introspect(id) => format!("{}/introspect", connection_path(id.as_str())),
            Act::ReauthLink(id) => format!("{}/reauth-link", connection_path(id.as_str())),
            Act::Disconnect(id) => format!("{}/disconnect", connection_path(id.as_str())),
            Act::Replay(None) => "/webhooks/replay".to_owned(),
            Act::Replay(Some(id)) => format!("/webhooks/replay?id={}", encoded(id.as_str())),
            Act::Pause(scope, name) => format!("/pauses/pause?scope={scope}&name={}", encoded(name)),
            Act::Resume(scope, name) => format!("/pauses/resume?scope={scope}&name={}", encoded(name)),
        }
    }

    /// Where one is afterwards.
    fn back(&self) -> String {
        match self {
            Act::Introspect(id) | Act::ReauthLink(id) | Act::Disconnect(id) => connection_path(id.as_str()),
            Act::Replay(_) => "/webhooks".to_owned(),
            Act::Pause(..) | Act::Resume(..) => "/pauses".to_owned(),
        }
    }

    /// The command that does the same.
    fn command(&self) -> String {
        match self {
            Act::Introspect(id) => format!("perch connections introspect {id}"),
            Act::ReauthLink(id) => format!("perch connections reauth-link {id}"),
            Act::Disconnect(id) => format!("perch connections disconnect {id}"),
            Act::Replay(Some(id)) => format!("perch webhooks replay {id}"),
            Act::Replay(None) => "perch webhooks replay --all-dead".to_owned(),
            Act::Pause(scope, name) => format!("perch pause {scope} {name}"),
            Act::Resume(scope, name) => format!("perch resume {scope} {name}"),
        }
    }

    /// What is missing in the form, if anything.
    fn missing(&self, fields: &Fields) -> Option<&'static str> {
        match self {
            Act::Disconnect(id) if fields.get("typed") != id.as_str() => {
                Some("What you typed is not the id of this connection.")
            }
            Act::Disconnect(_)
            | Act::Introspect(_)
            | Act::ReauthLink(_)
            | Act::Replay(_)
            | Act::Pause(..)
            | Act::Resume(..) => None,
        }
    }

    /// Does it, for an operator.
    async fn carry_out(&self, ask: &Ask<'_>) -> Told {
        match self {
            Act::Introspect(id) => match operate(ask, Errand::Introspect, id).await {
                Ok(_) => Told::done("Finch was asked, and what it said is shown below."),
                Err(why) => Told::failed(why),
            },
            Act::Disconnect(id) => match operate(ask, Errand::Disconnect, id).await {
                Ok(_) => Told::done("Finch has ended the connection, and its token is erased."),
                Err(why) => Told::failed(why),
            },
            Act::ReauthLink(id) => {
                let redirect_uri = ask.fields.filled("redirect_uri").map(str::to_owned);
                match operate(ask, Errand::ReauthLink { redirect_uri }, id).await {
                    Ok(body) => match RawObject::parse(&body).and_then(|o| o.text("connect_url")) {
                        Some(link) if is_link(&link) => {
                            Told { link: Some(link), ..Told::done("The link is made.") }
                        }
                        _ => Told::failed("Finch's answer has no link in it."),
                    },
                    Err(why) => Told::failed(why),
                }
            }
            Act::Pause(scope, name) => {
                let (scope, reason) = (*scope, ask.fields.filled("reason").map(str::to_owned));
                match ask.engine.pause(Pause { scope, name: name.clone(), reason }, Actor::Operator).await {
                    Ok(()) => Told::done(format!("Calls of {scope} {name} are refused until it is resumed.")),
                    Err(why) => Told::failed(why.to_string()),
                }
            }
            Act::Resume(scope, name) => {
                match ask.engine.resume(*scope, name.clone(), Actor::Operator).await {
                    Ok(()) => Told::done(format!("Calls of {scope} {name} go on.")),
                    Err(why) => Told::failed(why.to_string()),
                }
            }
            Act::Replay(_) if !ask.engine.delivers_webhooks() => Told::failed(Webhooks::NOWHERE),
            Act::Replay(one) => {
                match ask.engine.revive_webhooks(one.clone(), Actor::Operator, ask.now).await {
                    Ok(Revived::These(0)) => Told::done("There was no dead letter left."),
                    Ok(Revived::These(1)) => Told::done("One event is offered to the app again."),
                    Ok(Revived::These(count)) => {
                        Told::done(format!("{count} events are offered to the app again."))
                    }
                    Ok(Revived::Unknown) => Told::failed("No event of this id is kept."),
                    Ok(Revived::NotDead(state)) => Told::failed(format!(
                        "It is {}, not dead: there is nothing to replay.",
                        state.as_str()
                    )),
                    Err(error) => Told::failed(error.to_string()),
                }
            }
        }
    }

    fn question(&self, facts: Option<&Connection>) -> Question {
        let about = facts.map(about);
        match self {
            Act::Introspect(_) => Question {
                title: "Ask Finch about this connection?".to_owned(),
                what: html! {
                    (about.unwrap_or_default())
                    p { "perch asks " code { "/introspect" } " and keeps what it says. Nothing changes at Finch." }
                },
                more: html! {},
                button: "Ask Finch",
                is_final: false,
            },
            Act::ReauthLink(_) => Question {
                title: "Make a link to renew this login?".to_owned(),
                what: html! {
                    (about.unwrap_or_default())
                    p { "Finch makes a link through which the customer signs in again. It is good for 30 days; the connection stays as it is until the customer has used it." }
                },
                more: super::parts::field(
                    "redirect_uri",
                    "Where the customer lands afterwards",
                    "",
                    Some("Empty: where finch.redirect_uri says, or in the embedded flow."),
                ),
                button: "Make the link",
                is_final: false,
            },
            Act::Disconnect(_) => Question {
                title: "Disconnect for good?".to_owned(),
                what: html! {
                    (about.unwrap_or_default())
                    p { strong { "This cannot be undone." } " From now on perch refuses calls for this connection. It asks Finch to end it until Finch agrees, then erases the token. To come back, the customer has to go through Finch Connect again." }
                    p { "Finch bills for a connection until it is disconnected; its facts stay here for that bill." }
                },
                more: super::parts::field(
                    "typed",
                    "Type the connection's id to go on",
                    "",
                    Some("It stands above."),
                ),
                button: "Disconnect",
                is_final: true,
            },
            Act::Pause(scope, name) => Question {
                title: format!("Pause this {scope}?"),
                what: html! {
                    (super::parts::facts(&[("What", html! { (scope) " " strong { (name) } })]))
                    p { "Its calls are refused with a 503 that no SDK repeats, here at once and at every gateway on the same store within two seconds, until somebody resumes them. Calls that wait are ended; those already sent come to their end." }
                },
                more: html! {
                    (super::parts::field("reason", "Why", "", Some("For whoever finds it; no data of people.")))
                    (target(*scope, name))
                },
                button: "Pause",
                is_final: false,
            },
            Act::Resume(scope, name) => Question {
                title: format!("Resume this {scope}?"),
                what: html! {
                    (super::parts::facts(&[("What", html! { (scope) " " strong { (name) } })]))
                    p { "Its calls go to Finch again." }
                },
                more: target(*scope, name),
                button: "Resume",
                is_final: false,
            },
            Act::Replay(one) => Question {
                title: match one {
                    Some(_) => "Offer this event to the app again?".to_owned(),
                    None => "Offer all dead letters to the app again?".to_owned(),
                },
                what: html! {
                    @if let Some(one) = one { p { "Event " (id(one)) "." } }
                    p { "The app gets what it did not take, from the first attempt on. What it has taken before it can tell by the event's id." }
                },
                more: html! { @if let Some(one) = one { input type="hidden" name="id" value=(one); } },
                button: "Offer again",
                is_final: false,
            },
        }
    }
}

/// Asks, or does.
pub(super) async fn answer(ask: &Ask<'_>, act: &Act, is_post: bool) -> Served {
    let Who::Operator(visit) = &ask.who else {
        let advice = format!(
            "This door has no admin token, so it cannot know who you are. Set admin.token to act from here, or run: {}",
            act.command()
        );
        return refuse(ask, 403, "Nothing can be done from here", &advice);
    };
    let deed = act.path();
    let known = match act {
        Act::Introspect(id) | Act::ReauthLink(id) | Act::Disconnect(id) => {
            match tokio::time::timeout(VIEW_MAX, ask.engine.vault.connection(id)).await {
                Ok(Ok(entry)) => Some(entry.facts.clone()),
                Ok(Err(VaultError::UnknownConnection | VaultError::OtherEnvironment { .. })) => {
                    return refuse(
                        ask,
                        404,
                        "There is no such connection",
                        "The list of connections has those there are.",
                    );
                }
                Ok(Err(error)) => {
                    return refuse(ask, 503, "This connection cannot be used", &error.to_string());
                }
                Err(_) => {
                    return refuse(ask, 503, "The store does not answer", "Try again; the log has more.");
                }
            }
        }
        Act::Replay(_) | Act::Pause(..) | Act::Resume(..) => None,
    };
    let ask_again = |status, why: Option<&str>| {
        let view = confirm(act, act.question(known.as_ref()), &visit.seal_of(&deed), why);
        Served::html(status, frame(ask, &view, None))
    };
    if !is_post {
        return ask_again(200, None);
    }
    if !visit.fits(&deed, ask.fields.get("seal")) {
        return refuse(
            ask,
            403,
            "That form is not of this session",
            "It was made for another session or for something else. Open the page anew and use its own form.",
        );
    }
    if let Some(why) = act.missing(&ask.fields) {
        return ask_again(422, Some(why));
    }
    let told = act.carry_out(ask).await;
    ask.page.sessions.tell(visit, told);
    Served::see(&act.back())
}

/// What a pause is about, carried along.
fn target(scope: PauseScope, name: &str) -> Markup {
    html! {
        input type="hidden" name="scope" value=(scope);
        input type="hidden" name="name" value=(name);
    }
}

fn confirm(act: &Act, question: Question, seal: &str, why: Option<&str>) -> View {
    let path = act.path();
    let action = path.split('?').next().unwrap_or_default();
    let body = html! {
        @if let Some(why) = why { p.notice.bad role="alert" { strong { "Not done. " } (why) } }
        form.card.narrow method="post" action=(action) {
            (question.what)
            (question.more)
            input type="hidden" name="seal" value=(seal);
            p.buttons {
                button.danger[question.is_final] type="submit" { (question.button) }
                a.button.quiet href=(act.back()) { "Leave it" }
            }
        }
    };
    View::new(question.title, body)
}

/// Which connection is meant, said so that nobody takes one for another.
fn about(known: &Connection) -> Markup {
    facts(&[
        ("Connection", id(&known.connection_id)),
        ("Customer", or_dash(known.customer_id.as_ref(), |c| html! { strong { (c) } })),
        ("Provider", or_dash(known.provider_id.as_ref(), |p| html! { (p) })),
        ("Status", status(known.status)),
    ])
}

/// The body of Finch's answer, or why there is none to be glad of.
async fn operate(ask: &Ask<'_>, errand: Errand, id: &ConnectionId) -> Result<Vec<u8>, String> {
    let Answer { status, body, .. } =
        ask.engine.operate(errand, id).await.map_err(|error| error.to_string())?;
    let AnswerBody::Whole(body) = body else {
        return Err("Finch's answer is too large to be one.".to_owned());
    };
    if status.is_success() {
        return Ok(body.into());
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut why = said["message"].as_str().unwrap_or("Finch gave no reason").to_owned();
    for (what, part) in
        [("What to do", &said["perch"]["action"]), ("Finch-Request-ID", &said["perch"]["finch_request_id"])]
    {
        if let Some(text) = part.as_str() {
            why.push_str(&format!(". {what}: {text}"));
        }
    }
    Err(format!("{why} ({})", status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_found_by_its_path_and_leads_back_to_it() {
        let id = ConnectionId::new("a/b <c>").expect("an id");
        for act in [
            Act::Introspect(id.clone()),
            Act::ReauthLink(id.clone()),
            Act::Disconnect(id),
            Act::Replay(None),
            Act::Replay(Some(EventId::new("msg_1&x=y").expect("an id"))),
            Act::Pause(PauseScope::Customer, "a&b <c>".to_owned()),
            Act::Resume(PauseScope::Product, "directory".to_owned()),
        ] {
            let whole = act.path();
            let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
            assert_eq!(Act::of(path, &Fields::of(query)), Some(act.clone()), "{whole}");
            assert!(act.back().starts_with('/') && act.command().starts_with("perch "));
        }
        for path in [
            "/connections/c1",
            "/connections/c1/explode",
            "/connections//disconnect",
            "/connections/%zz/disconnect",
        ] {
            assert_eq!(Act::of(path, &Fields::default()), None, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_undone_has_to_be_spelled_out() {
        let act = Act::Disconnect(ConnectionId::new("c1").expect("an id"));
        for typed in ["", "typed=", "typed=c2", "typed=C1", "other=c1"] {
            assert!(act.missing(&Fields::of(typed)).is_some(), "{typed}");
        }
        assert_eq!(act.missing(&Fields::of("typed=+c1+")), None);
    }
}
