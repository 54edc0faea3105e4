//! What is remembered of each inode that the kernel knows: where it is, and how often it asked.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use rustix::fs::FileType;

use super::open_file::OpenFile;
use super::{Attr, Inode};

/// The inodes that the kernel knows, by number. Only those without a known name keep a descriptor
/// open.
#[derive(Debug, Default)]
pub struct Nodes(DashMap<Inode, Node>);

/// One name of an inode: its directory and its stored name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The directory.
    pub parent: Inode,
    /// The name, as it is stored in the vault.
    pub name: Box<OsStr>,
}

#[derive(Debug)]
struct Node {
    /// Lookups that the kernel has not yet taken back.
    lookups: u64,
    /// Told to the kernel with the number, which alone may come to mean another file.
    generation: u32,
    kind: FileType,
    /// Names that are known; the first is as good as any.
    links: Vec<Link>,
    /// Set while no name is known.
    nameless: Option<Box<Nameless>>,
}

/// A file or directory that the kernel still knows, without a known name.
#[derive(Debug)]
struct Nameless {
    /// `None` where no descriptor was left for it.
    pin: Option<Pin>,
    /// Its last name was removed. Otherwise it has names that nobody has looked up.
    gone: bool,
    /// The attributes after the removal, unless it was open then.
    left: Option<Attr>,
    /// Whether `pin` was used since, so that `left` may be out of date.
    reached: AtomicBool,
}

/// A hold on an inode without a known name: by it the inode is reached, and its number names
/// nothing else until the kernel forgets it. Were the number given away, the kernel would fail
/// what is under way on the old file.
#[derive(Clone)]
pub enum Pin {
    /// An `O_PATH` descriptor.
    Path(Arc<OwnedFd>),
    /// The descriptor of the file that was open when the name went.
    File(Arc<OpenFile>),
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Path(_) => "an O_PATH descriptor",
            Self::File(_) => "an open file",
        })
    }
}

impl Pin {
    /// A descriptor of the inode.
    ///
    /// # Errors
    /// EMFILE.
    pub fn descriptor(self) -> std::io::Result<Arc<OwnedFd>> {
        match self {
            Self::Path(fd) => Ok(fd),
            Self::File(file) => Ok(Arc::new(file.backing().as_fd().try_clone_to_owned()?)),
        }
    }
}

impl Node {
    fn new(kind: FileType, generation: u32) -> Self {
        Self { lookups: 0, generation, kind, links: Vec::with_capacity(1), nameless: None }
    }

    /// The generation to tell of `attr`: another one than the node's own where the number was given
    /// to a new file while the kernel still knows the old one.
    fn generation_of(&self, attr: &Attr, backing: u32) -> u32 {
        match self.is_gone() || self.kind != attr.kind {
            true if backing == self.generation => backing.wrapping_add(1),
            true => backing,
            false => self.generation,
        }
    }

    fn is_gone(&self) -> bool {
        self.nameless.as_ref().is_some_and(|nameless| nameless.gone)
    }

    fn add_link(&mut self, link: Link) {
        self.nameless = None;
        if !self.links.contains(&link) {
            // A directory has one name; an older one is of before a rename.
            if self.kind == FileType::Directory {
                self.links.clear();
            }
            self.links.push(link);
        }
    }
}

/// How an inode can be reached.
#[derive(Debug, Clone)]
pub enum Whereabouts {
    /// By this name.
    At(Link),
    /// By this alone.
    Pinned(Pin),
    /// It has no name any more, and nothing holds it.
    Gone,
    /// Not by anything that is known.
    Nowhere,
}

impl Nodes {
    /// Notes one lookup that found `attr` under `link`, with the generation that the backing
    /// filesystem gives; returns the one to tell.
    pub fn remember(&self, attr: &Attr, backing: u32, link: Link) -> u32 {
        let mut node = self.0.entry(attr.inode).or_insert_with(|| Node::new(attr.kind, backing));
        let generation = node.generation_of(attr, backing);
        if generation != node.generation {
            let lookups = node.lookups;
            *node = Node::new(attr.kind, generation);
            node.lookups = lookups;
        }
        node.lookups += 1;
        node.add_link(link);
        generation
    }

    /// The generation that [`Nodes::remember`] would tell.
    pub fn generation(&self, attr: &Attr, backing: u32) -> u32 {
        self.0.get(&attr.inode).map_or(backing, |node| node.generation_of(attr, backing))
    }

    /// Takes back `lookups`; an inode that is left with none is not remembered. Returns what it was,
    /// and the hold on it if it had one.
    pub fn forget(&self, inode: Inode, lookups: u64) -> Option<(FileType, Option<Pin>)> {
        let forgotten = self.0.remove_if_mut(&inode, |_, node| {
            node.lookups = node.lookups.saturating_sub(lookups);
            node.lookups == 0
        });
        let (_, node) = forgotten?;
        Some((node.kind, node.nameless.and_then(|nameless| nameless.pin)))
    }

    /// How the inode can be reached.
    pub fn whereabouts(&self, inode: Inode) -> Whereabouts {
        let Some(node) = self.0.get(&inode) else { return Whereabouts::Nowhere };
        match (node.links.first(), &node.nameless) {
            (Some(link), _) => Whereabouts::At(link.clone()),
            (None, Some(nameless)) => match &nameless.pin {
                Some(pin) => {
                    nameless.reached.store(true, Ordering::Relaxed);
                    Whereabouts::Pinned(pin.clone())
                }
                None if nameless.gone => Whereabouts::Gone,
                None => Whereabouts::Nowhere,
            },
            (None, None) => Whereabouts::Nowhere,
        }
    }

    /// The attributes of an inode without a name, where they are known to be as they were when the
    /// last name was removed.
    pub fn left(&self, inode: Inode) -> Option<Attr> {
        let node = self.0.get(&inode)?;
        let nameless = node.nameless.as_ref().filter(|nameless| nameless.gone)?;
        nameless.left.filter(|_| !nameless.reached.load(Ordering::Relaxed))
    }

    /// Shows `work` the name by which the inode can be reached, if it can; be brief.
    pub fn with_link<T>(&self, inode: Inode, work: impl FnOnce(&Link) -> T) -> Option<T> {
        let node = self.0.get(&inode)?;
        node.links.first().map(work)
    }

    /// All names of the inode that are known.
    pub fn links(&self, inode: Inode) -> Vec<Link> {
        self.0.get(&inode).map_or_else(Vec::new, |node| node.links.clone())
    }

    /// Whether no name of the inode but `link` is known.
    pub fn is_only_link(&self, inode: Inode, link: &Link) -> bool {
        self.0.get(&inode).is_some_and(|node| node.links.iter().all(|known| known == link))
    }

    /// One name less. `left` are the attributes afterwards; `pin` is what the inode is reached by
    /// where that was its only known name.
    pub fn unlink(&self, link: &Link, left: Attr, pin: Option<Pin>) {
        if let Some(mut node) = self.0.get_mut(&left.inode) {
            let gone = left.nlink == 0;
            node.links.retain(|known| known != link && !gone);
            if node.links.is_empty() {
                let left = (!matches!(pin, Some(Pin::File(_)))).then_some(left);
                let reached = AtomicBool::new(false);
                node.nameless = Some(Box::new(Nameless { pin, gone, left, reached }));
            }
        }
    }

    /// Another place for one name.
    pub fn rename(&self, inode: Inode, from: &Link, to: Link) {
        if let Some(mut node) = self.0.get_mut(&inode) {
            node.links.retain(|known| known != from);
            node.add_link(to);
        }
    }

    /// The regular files among them.
    pub fn files(&self) -> Vec<Inode> {
        let files = self.0.iter().filter(|node| node.kind == FileType::RegularFile);
        files.map(|node| *node.key()).collect()
    }

    /// Inodes that are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Link {
    /// A name in a directory.
    pub fn new(parent: Inode, stored: &OsStr) -> Self {
        Self { parent, name: OsString::from(stored).into_boxed_os_str() }
    }
}
