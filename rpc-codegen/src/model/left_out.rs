//! Types that are left out: nothing that is generated may use them.

use prost_reflect::{DescriptorPool, Kind};

use super::externs::{extern_path, is_generated};
use crate::{error::Problem, source::Sources, target::Target};

/// The problems of all fields and procedures that use a type that is left out.
pub(super) fn problems(pool: &DescriptorPool, sources: &Sources, target: &Target<'_>) -> Vec<Problem> {
    let is_out = |name: &str| target.choices.left_out.contains(name) && extern_path(name, target).is_none();
    let mut problems = Vec::new();
    let mut uses = |user: String, name: &str, file: &str, path: &[i32]| {
        if is_out(name) {
            let problem = Problem::new(format!("{user} uses `{name}`, which is left out"))
                .at(sources.place(file, path))
                .with_help(format!(
                    "remove the path from `Config::leave_out`, or say where its type is: `.extern_path(\".{name}\", \"::a_crate::AType\")`"
                ));
            problems.push(problem);
        }
    };
    for message in pool
        .all_messages()
        .filter(|message| is_generated(message.full_name(), target))
    {
        for field in message.fields() {
            let name = match field.kind() {
                Kind::Message(inner) => inner.full_name().to_owned(),
                Kind::Enum(inner) => inner.full_name().to_owned(),
                _ => continue,
            };
            let user = format!("field `{}`", field.full_name());
            uses(user, &name, message.parent_file().name(), field.path());
        }
    }
    for service in pool
        .services()
        .filter(|service| is_generated(service.full_name(), target))
    {
        for method in service.methods() {
            for used in [method.input(), method.output()] {
                let user = format!("procedure `{}`", method.full_name());
                uses(
                    user,
                    used.full_name(),
                    service.parent_file().name(),
                    method.path(),
                );
            }
        }
    }
    problems
}
