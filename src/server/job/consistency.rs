//! RONDO.CONSISTENCY: the quorums that a connection asks for, and those that it gets.

use crate::commands::CommandError;
use crate::protocol::{Args, Reply, parse_i64};
use crate::server::job::Job;
use crate::server::session::settings::quorum_of;

impl Job {
    /// RONDO.CONSISTENCY [R n] [W n] [STRICT|SLOPPY].
    pub(super) fn consistency(&mut self, args: Args<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let mut wish = self.talk.consistency;
        let mut words = args.iter().skip(1);
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"STRICT" => wish.strict = Some(true),
                b"SLOPPY" => wish.strict = Some(false),
                letter @ (b"R" | b"W") => {
                    let number = words.next().and_then(parse_i64).and_then(|number| usize::try_from(number).ok());
                    let number = number.filter(|number| *number > 0).ok_or(CommandError::Syntax)?;
                    if letter == b"R" { wish.read = Some(number) } else { wish.write = Some(number) }
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let mut reply = Reply::new(out, self.talk.session.proto);
        if args.len() > 1 {
            self.talk.consistency = wish;
            reply.ok();
            return Ok(());
        }
        let view = self.worker.shared.view.load();
        let quorum = quorum_of(&self.worker.shared.node.config.settings(), wish, &view);
        reply.map(4);
        for (name, number) in
            [("replicas", view.replicas), ("read-quorum", quorum.read), ("write-quorum", quorum.write)]
        {
            reply.bulk(name.as_bytes());
            reply.int(number as i64);
        }
        reply.bulk(b"quorum-mode");
        reply.bulk(if quorum.strict { b"strict" } else { b"sloppy" });
        Ok(())
    }
}
