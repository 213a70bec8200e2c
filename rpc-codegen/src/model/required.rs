//! Required fields that lead back to their own message: no such message has an end.

use std::collections::HashSet;

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::graph::Graph;
use crate::{
    error::Problem,
    source::{Sources, is_google},
};

/// The problems of all messages that their required fields lead back to.
pub(super) fn problems(pool: &DescriptorPool, sources: &Sources, graph: &Graph) -> Vec<Problem> {
    let mut reported: HashSet<String> = HashSet::new();
    let mut problems = Vec::new();
    for message in pool.all_messages() {
        if is_google(message.parent_file().name()) || reported.contains(message.full_name()) {
            continue;
        }
        if let Some(circle) = circle(&message, graph) {
            reported.extend(
                circle
                    .iter()
                    .map(|field| field.parent_message().full_name().to_owned()),
            );
            problems.push(problem(&message, &circle, sources));
        }
    }
    problems
}

/// The required fields that lead from `message` back to it.
fn circle(message: &MessageDescriptor, graph: &Graph) -> Option<Vec<FieldDescriptor>> {
    // The fields on the way to each message found, so that the first circle is a shortest one.
    let mut found: Vec<Vec<FieldDescriptor>> = required(message, graph)
        .into_iter()
        .map(|field| vec![field])
        .collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut next = 0;
    while let Some(way) = found.get(next).cloned() {
        next += 1;
        let Some(Kind::Message(reached)) = way.last().map(FieldDescriptor::kind) else {
            continue;
        };
        if reached == *message {
            return Some(way);
        }
        if seen.insert(reached.full_name().to_owned()) {
            found.extend(
                required(&reached, graph)
                    .into_iter()
                    .map(|field| [&way[..], &[field]].concat()),
            );
        }
    }
    None
}

/// The required fields of `message` whose messages contain it.
fn required(message: &MessageDescriptor, graph: &Graph) -> Vec<FieldDescriptor> {
    let fields = message.fields();
    fields
        .filter(|field| field.cardinality() == Cardinality::Required && graph.is_recursive(field))
        .collect()
}

fn problem(message: &MessageDescriptor, circle: &[FieldDescriptor], sources: &Sources) -> Problem {
    let place = |field: &FieldDescriptor| sources.place(field.parent_file().name(), field.path());
    let names: Vec<String> = circle
        .iter()
        .map(|field| format!("`{}`", field.full_name()))
        .collect();
    let (first, rest) = match circle {
        [] => (None, None),
        [first, rest @ ..] => (place(first), rest.first().and_then(place)),
    };
    Problem::new(format!(
        "message `{}` contains itself without end, through the required {} {}",
        message.full_name(),
        if names.len() == 1 { "field" } else { "fields" },
        names.join(", ")
    ))
    .at(first)
    .with_other("the next field is here", rest.clone())
    .with_help(if rest.is_none() {
        "make the field `optional`"
    } else {
        "make one of these fields `optional`"
    })
}
