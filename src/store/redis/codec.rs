//! The script of the shared ledger in Rust's words: its arguments, and what its answers mean.
//!
//! Spans and times are whole microseconds, tickets 32 hexadecimal digits, products their places in
//! [`Product::ALL`], and a customer sixteen digits of its hash: no name leaves this process. A list
//! is one argument, its numbers between blanks; a pool's place is its product's, the last is the
//! egress IP's. What cannot be an answer of the script is a [`LinkError::BadReply`].

pub mod notices;

use super::reply::{LinkError, Reply};
use crate::limit::beat::{Beat, Pools, Pulse, Sent, Stance};
use crate::limit::{Admission, Ask, PerProduct, Reason, Rules, Scope, Standing, Tag, Ticket};
use crate::types::{CustomerId, Product};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

/// The one script that is called for everything.
pub const SCRIPT: &str = concat!(
    include_str!("ledger.lua"),
    include_str!("members.lua"),
    include_str!("notices.lua"),
    include_str!("tail.lua")
);

/// A span that is longer counts as this, so that no sum leaves the whole numbers of a double.
const SPAN_MAX: u64 = 1 << 52;

/// The first word is the operation, the others are its arguments.
pub type Call = Vec<Vec<u8>>;

/// What the server's clock said, and the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<T> {
    /// The server's time, in microseconds.
    pub now: u64,
    /// The answer.
    pub what: T,
}

/// An answer of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<T> {
    /// It was done.
    Told(Told<T>),
    /// Nothing was done: the server's clock is further on than the caller expects.
    Skewed {
        /// The server's time, in microseconds.
        now: u64,
    },
}

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standings {
    /// Every product that has a limit.
    pub products: PerProduct<Option<Standing>>,
    /// The egress IP.
    pub ip: Standing,
    /// Every hold that still lasts, and for how long.
    pub holds: Vec<(Scope, Duration)>,
}

/// The rules in the script's order; the same for every call, so it is kept.
pub fn rules(rules: &Rules) -> Vec<u8> {
    let mut text = String::new();
    for number in [
        micros(rules.window),
        micros(rules.pad),
        micros(rules.flight()),
        micros(rules.answer_max),
        u64::from(rules.pacing),
        u64::try_from(rules.queue_max).unwrap_or(SPAN_MAX).min(SPAN_MAX),
        u64::try_from(rules.queue_per_customer_max).unwrap_or(SPAN_MAX).min(SPAN_MAX),
        micros(rules.stale),
        micros(rules.silence),
        micros(rules.lease_life),
        micros(rules.call_timeout),
        u64::from(rules.share_percent.min(100)),
        u64::from(rules.ip.requests.get()),
        micros(rules.ip.window),
    ] {
        push(&mut text, number);
    }
    for product in Product::ALL {
        push(&mut text, rules.limits[product].map_or(0, NonZeroU32::get));
    }
    text.into_bytes()
}

/// What every call begins with, next to the operation: the run of the server that is meant, the
/// latest time in microseconds that its clock can show, or 0 when that is not known, and [`rules`].
pub fn head(run: &str, expected: u64, rules: &[u8]) -> [Vec<u8>; 3] {
    [run.as_bytes().to_vec(), word(expected), rules.to_vec()]
}

/// The arguments of the script, in order.
pub fn args<'a>(head: &'a [Vec<u8>; 3], call: &'a Call) -> Vec<&'a [u8]> {
    let (operation, rest) = call.split_at(1.min(call.len()));
    operation.iter().chain(head).chain(rest).map(Vec::as_slice).collect()
}

/// Asks for a permit.
pub fn ask(ask: &Ask) -> Call {
    vec![
        b"ask".to_vec(),
        word(ask.ticket),
        product_word(ask.product),
        word(ask.priority as u8),
        flow(ask.customer.as_ref()),
        word(ask.weight),
        word(micros(ask.patience)),
        ask.tag.map_or_else(|| word(-1), |tag| word(tag.0.min(SPAN_MAX))),
    ]
}

/// Takes a permit anew; `ticket` was granted for `product`.
pub fn extend(ticket: Ticket, product: Product) -> Call {
    vec![b"extend".to_vec(), word(ticket), product_word(product)]
}

/// Says that the response headers are here.
pub fn arrived(ticket: Ticket, product: Product, is_429: bool) -> Call {
    vec![b"arrived".to_vec(), word(ticket), product_word(product), word(u8::from(is_429))]
}

/// Gives up a ticket that waits.
pub fn cancel(ticket: Ticket) -> Call {
    vec![b"cancel".to_vec(), word(ticket)]
}

/// Gives back a permit of which not one byte was used.
pub fn refund(ticket: Ticket, product: Product) -> Call {
    vec![b"refund".to_vec(), word(ticket), product_word(product)]
}

/// Says that Finch refused a call for the product's limit.
pub fn limited(product: Product, retry_after: Option<Duration>) -> Call {
    vec![b"limited".to_vec(), product_word(product), word(micros(retry_after.unwrap_or_default()))]
}

/// Grants nothing in the scope for this long.
pub fn hold(scope: Scope, span: Duration) -> Call {
    let place = match scope {
        Scope::Product(product) => product_word(product),
        Scope::EgressIp => word(-1),
    };
    vec![b"hold".to_vec(), place, word(micros(span))]
}

/// The server's clock is not believed: forgets everything, and learns anew.
pub fn skew() -> Call {
    vec![b"skew".to_vec()]
}

/// One heartbeat.
pub fn beat(beat: &Beat) -> Call {
    let stance = match beat.stance {
        Stance::Joined => 0,
        Stance::Apart => 1,
        Stance::Leaving => 2,
    };
    let (away, away_for) = &beat.away;
    vec![
        b"beat".to_vec(),
        beat.member.as_bytes().to_vec(),
        format!("{:016x}", beat.incarnation.0).into_bytes(),
        word(beat.number.min(SPAN_MAX)),
        word(beat.acked.min(SPAN_MAX)),
        word(stance),
        word(micros(beat.uptime)),
        word(beat.peers),
        word(micros(*away_for)),
        pools(&beat.lease),
        pools(&beat.demand),
        pools(away),
        beat.replay.as_deref().map_or_else(|| b"-".to_vec(), replay),
    ]
}

/// Each as `ticket:product:class:age`; the age of what is in flight is -1.
fn replay(sent: &[Sent]) -> Vec<u8> {
    let mut text = String::with_capacity(sent.len() * 48);
    for sent in sent {
        let age = sent.age.map_or(-1, |age| i64::try_from(micros(age)).unwrap_or(i64::MAX));
        push(
            &mut text,
            format_args!("{}:{}:{}:{age}", sent.ticket, sent.product as usize, sent.priority as u8),
        );
    }
    text.into_bytes()
}

/// The answer to [`ask`] for `product`; how that stands, `None` when it has no limit; and whether the egress IP is open:
/// neither held, nor waiting for the call that goes first after a hold.
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_ask(
    reply: &Reply,
    product: Product,
    rules: &Rules,
) -> Result<Heard<(Admission, Option<Standing>, bool)>, LinkError> {
    heard(reply, |words| {
        let verdict = words.text()?;
        let (after, third) = (words.span()?, words.number()?);
        let fourth = words.number()?;
        let admission = match verdict {
            "G" => Admission::Granted { tag: Tag(third) },
            "W" => Admission::Wait { after, tag: Tag(third) },
            "R" => Admission::Refused { after, scope: scope(third, product)?, reason: reason(fourth)? },
            other => return Err(bad(format_args!("the verdict {other:?}"))),
        };
        let is_ip_open = words.number()? == 0;
        Ok((admission, standing(words, product, rules)?, is_ip_open))
    })
}

/// The answer to [`arrived`] for `product`: how that stands; `None` when it has no limit.
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_arrived(
    reply: &Reply,
    product: Product,
    rules: &Rules,
) -> Result<Heard<Option<Standing>>, LinkError> {
    heard(reply, |words| {
        words.done()?;
        standing(words, product, rules)
    })
}

/// The answer to [`extend`], [`cancel`] or [`refund`]: whether there was something to do it to.
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_flag(reply: &Reply) -> Result<Heard<bool>, LinkError> {
    heard(reply, Words::flag)
}

/// The answer to [`limited`], [`hold`] or [`skew`].
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_done(reply: &Reply) -> Result<Heard<()>, LinkError> {
    heard(reply, Words::done)
}

/// The answer to [`beat`], and how everything stands, whether or not the beat was taken.
///
/// # Errors
/// [`LinkError::BadReply`].
pub fn read_beat(reply: &Reply, rules: &Rules) -> Result<Heard<(Pulse, Standings)>, LinkError> {
    heard(reply, |words| {
        let told = Pulse {
            is_known: words.flag()?,
            lease: read_pools(words.text()?)?,
            peers: words.small()?,
            away: (read_pools(words.text()?)?, words.span()?),
            wants_replay: words.flag()?,
            learns_for: words.span()?,
            wakes: words.text()?.split_ascii_whitespace().map(ticket).collect::<Result<_, _>>()?,
        };
        let pulse = if told.is_known { told } else { Pulse::unknown() };
        Ok((pulse, read_standings(words.text()?, rules)?))
    })
}

/// Limit, used, time held, time to the next permit, time of the hold; for each product and the IP.
fn read_standings(text: &str, rules: &Rules) -> Result<Standings, LinkError> {
    let mut numbers = numbers(text);
    let mut holds = Vec::new();
    let mut next = |scope: Scope, window: Duration| {
        let mut number = || numbers.next().unwrap_or_else(|| Err(bad("too few standings")));
        let standing = stand([number()?, number()?, number()?, number()?], window)?;
        let hold = Duration::from_micros(number()?);
        if !hold.is_zero() {
            holds.push((scope, hold));
        }
        Ok::<_, LinkError>(standing)
    };
    let mut products = PerProduct::from_fn(|_| None);
    for product in Product::ALL {
        let standing = next(Scope::Product(product), rules.window)?;
        products[product] = rules.limits[product].map(|_| standing);
    }
    let ip = next(Scope::EgressIp, rules.ip.window)?;
    match numbers.next() {
        None => Ok(Standings { products, ip, holds }),
        Some(_) => Err(bad("too many standings")),
    }
}

fn standing(words: &mut Words<'_>, product: Product, rules: &Rules) -> Result<Option<Standing>, LinkError> {
    let numbers = [words.number()?, words.number()?, words.number()?, words.number()?];
    let standing = stand(numbers, rules.window)?;
    Ok(rules.limits[product].map(|_| standing))
}

/// From limit, used, time held and time to the next permit.
fn stand([limit, used, held_for, next]: [u64; 4], window: Duration) -> Result<Standing, LinkError> {
    let (limit, used) = (small(limit)?, small(used)?);
    let free = if held_for == 0 { limit.saturating_sub(used) } else { 0 };
    let next_free_in = Duration::from_micros(if held_for == 0 { next } else { held_for });
    Ok(Standing { limit, used, remaining: free, window, next_free_in })
}

fn scope(number: u64, product: Product) -> Result<Scope, LinkError> {
    match number {
        0 => Ok(Scope::Product(product)),
        1 => Ok(Scope::EgressIp),
        _ => Err(bad(format_args!("the scope {number}"))),
    }
}

fn reason(number: u64) -> Result<Reason, LinkError> {
    match number {
        0 => Ok(Reason::Quota),
        1 => Ok(Reason::Hold),
        2 => Ok(Reason::Learning),
        3 => Ok(Reason::QueueFull),
        4 => Ok(Reason::CustomerQueueFull),
        _ => Err(bad(format_args!("the reason {number}"))),
    }
}

fn ticket(text: &str) -> Result<Ticket, LinkError> {
    Ticket::parse(text).ok_or_else(|| bad(format_args!("the ticket {text:?}")))
}

fn pools(pools: &Pools) -> Vec<u8> {
    let mut text = String::new();
    for product in Product::ALL {
        push(&mut text, pools.products[product]);
    }
    push(&mut text, pools.ip);
    text.into_bytes()
}

/// No text at all is nothing in any pool.
fn read_pools(text: &str) -> Result<Pools, LinkError> {
    let mut pools = Pools::none();
    if text.is_empty() {
        return Ok(pools);
    }
    let mut numbers = numbers(text);
    let mut next = || small(numbers.next().unwrap_or_else(|| Err(bad("too few pools")))?);
    for product in Product::ALL {
        pools.products[product] = next()?;
    }
    pools.ip = next()?;
    match numbers.next() {
        None => Ok(pools),
        Some(_) => Err(bad("too many pools")),
    }
}

fn numbers(text: &str) -> impl Iterator<Item = Result<u64, LinkError>> {
    text.split_ascii_whitespace()
        .map(|word| word.parse().map_err(|_| bad(format_args!("{word:?} for a number"))))
}

fn small(number: u64) -> Result<u32, LinkError> {
    u32::try_from(number).map_err(|_| bad(format_args!("{number}, which is too large")))
}

/// Reads one answer from its time on.
fn heard<'a, T>(
    reply: &'a Reply,
    read: impl FnOnce(&mut Words<'a>) -> Result<T, LinkError>,
) -> Result<Heard<T>, LinkError> {
    let list = reply.as_list().ok_or_else(|| bad("no list"))?;
    let mut words = Words(list.iter());
    let now = words.number()?;
    if let [_, Reply::Text(mark)] = list
        && mark == b"S"
    {
        return Ok(Heard::Skewed { now });
    }
    let what = read(&mut words)?;
    match words.0.next() {
        None => Ok(Heard::Told(Told { now, what })),
        Some(_) => Err(bad("more words than there should be")),
    }
}

/// The parts of an answer, read one by one.
struct Words<'a>(std::slice::Iter<'a, Reply>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a Reply, LinkError> {
        self.0.next().ok_or_else(|| bad("fewer words than there should be"))
    }

    fn text(&mut self) -> Result<&'a str, LinkError> {
        self.next()?.as_str().ok_or_else(|| bad("no text where one should be"))
    }

    fn number(&mut self) -> Result<u64, LinkError> {
        let number = self.next()?.as_int().and_then(|n| u64::try_from(n).ok());
        number.ok_or_else(|| bad("no number where one should be"))
    }

    fn small(&mut self) -> Result<u32, LinkError> {
        small(self.number()?)
    }

    fn span(&mut self) -> Result<Duration, LinkError> {
        self.number().map(Duration::from_micros)
    }

    fn flag(&mut self) -> Result<bool, LinkError> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(bad(format_args!("{other} for yes or no"))),
        }
    }

    fn done(&mut self) -> Result<(), LinkError> {
        match self.text()? {
            "ok" => Ok(()),
            other => Err(bad(format_args!("{other:?} for ok"))),
        }
    }
}

fn bad(what: impl std::fmt::Display) -> LinkError {
    let what: String = what.to_string().chars().take(80).collect();
    LinkError::BadReply(format!("the ledger's script answered {what}"))
}

fn flow(customer: Option<&CustomerId>) -> Vec<u8> {
    let Some(customer) = customer else { return b"----------------".to_vec() };
    let mut text = String::with_capacity(16);
    for byte in Sha256::digest(customer.as_str().as_bytes()).iter().take(8) {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into_bytes()
}

fn word(value: impl std::fmt::Display) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn product_word(product: Product) -> Vec<u8> {
    word(product as usize)
}

/// One more word of a list.
fn push(text: &mut String, value: impl std::fmt::Display) {
    if !text.is_empty() {
        text.push(' ');
    }
    let _ = write!(text, "{value}");
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(SPAN_MAX).min(SPAN_MAX)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
