//! What must be found of a file after the daemon has died in the middle of things.

/// A change that was begun and of which nothing is promised yet.
#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
    /// Another file takes the name, whole.
    Replace(Vec<u8>),
}

/// The content that was promised, and the changes that may have come on top of it, in any part.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    base: Vec<u8>,
    pending: Vec<Change>,
}

impl Promise {
    pub fn of(content: Vec<u8>) -> Promise {
        Promise { base: content, pending: Vec::new() }
    }

    /// To be called before the system call.
    pub fn begin(&mut self, change: Change) {
        self.pending.push(change);
    }

    /// To be called when what was begun is promised: after fsync, close, rename.
    pub fn keep(&mut self) {
        self.base = self.now();
        self.pending.clear();
    }

    /// Changes that lead from an empty file to what may be found of this one.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let base = Change::Write(0, self.base.clone());
        [base].into_iter().chain(self.pending.iter().cloned())
    }

    /// The content as it is when every change has been made.
    pub fn now(&self) -> Vec<u8> {
        let mut content = self.base.clone();
        for change in &self.pending {
            match change {
                Change::Write(offset, bytes) => {
                    let end = *offset as usize + bytes.len();
                    if content.len() < end {
                        content.resize(end, 0);
                    }
                    content[*offset as usize..end].copy_from_slice(bytes);
                }
                Change::Truncate(length) => content.resize(*length as usize, 0),
                Change::Replace(bytes) => content.clone_from(bytes),
            }
        }
        content
    }

    /// Whether what was found keeps the promise; the reason if not.
    pub fn check(&self, found: &[u8]) -> Result<(), String> {
        let replaced = |change: &Change| matches!(change, Change::Replace(bytes) if bytes == found);
        if self.pending.iter().any(replaced) {
            return Ok(());
        }
        let (shortest, longest) = self.lengths();
        if found.len() < shortest || found.len() > longest {
            return Err(format!(
                "{} bytes, where {shortest} to {longest} were promised",
                found.len()
            ));
        }
        match (0..found.len()).find(|at| !self.may_be(*at, found[*at])) {
            None => Ok(()),
            Some(at) => Err(format!(
                "byte {at} of {} is {}; {:?} was promised, {} changes were under way",
                found.len(),
                found[at],
                self.base.get(at),
                self.pending.len()
            )),
        }
    }

    fn lengths(&self) -> (usize, usize) {
        let (mut shortest, mut longest) = (self.base.len(), self.base.len());
        for change in &self.pending {
            match change {
                Change::Write(offset, bytes) => {
                    longest = longest.max(*offset as usize + bytes.len())
                }
                Change::Truncate(length) => {
                    shortest = shortest.min(*length as usize);
                    longest = longest.max(*length as usize);
                }
                Change::Replace(_) => {}
            }
        }
        (shortest, longest)
    }

    fn may_be(&self, at: usize, byte: u8) -> bool {
        if self.base.get(at) == Some(&byte) || (byte == 0 && at >= self.base.len()) {
            return true;
        }
        self.pending.iter().any(|change| match change {
            Change::Write(offset, bytes) => {
                at.checked_sub(*offset as usize).is_some_and(|at| bytes.get(at) == Some(&byte))
            }
            Change::Truncate(length) => byte == 0 && at >= *length as usize,
            Change::Replace(_) => false,
        })
    }
}
