//! A support bundle, ready to be pasted: for a request, a connection or a customer.

use super::parts::{View, problem};
use super::{Ask, in_time};
use crate::doors::admin::connections::decoded;
use maud::html;

/// The id that a path is about.
pub(super) fn id_of(path: &str) -> Option<String> {
    let part = path.strip_prefix("/support/").filter(|part| !part.contains('/'))?;
    decoded(part).filter(|id| !id.is_empty())
}

/// The view; `None` when nobody knows the id.
pub(super) async fn view(ask: &Ask<'_>, id: &str) -> Option<View> {
    let body = match in_time(ask.engine.support(id, ask.now)).await {
        Err(why) => problem("The bundle", &why),
        Ok(None) => return None,
        Ok(Some(bundle)) => {
            let text = bundle.to_markdown();
            html! {
                p {
                    "The first part is for Finch: its own ids and words. What stands under “For us” is not: it has names of yours. "
                    "There is no token, body or value of anybody's data in either."
                }
                div.copy {
                    label for="bundle" { "As Markdown" }
                    textarea #bundle readonly rows=(text.lines().count().clamp(10, 40)) spellcheck="false" { (text) }
                    p.buttons { button type="button" data-copy="bundle" hidden { "Copy" } }
                }
            }
        }
    };
    Some(View::new("Support bundle", body))
}
