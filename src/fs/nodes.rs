//! What is remembered of each inode that the kernel knows: where it is, and how often it asked.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use dashmap::DashMap;
use rustix::fs::FileType;

use super::{Attr, Inode};

/// The inodes that the kernel knows, by number. None of them keeps a descriptor open.
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
    generation: u64,
    kind: FileType,
    /// Names that are known; the first is as good as any.
    links: Vec<Link>,
    /// What is left after the removal of the last name.
    gone: Option<Box<Gone>>,
}

/// A file or directory without a name that the kernel still knows.
#[derive(Debug)]
struct Gone {
    attr: Attr,
    /// Keeps the backing inode, so that its number names nothing else until the kernel forgets
    /// it. Were the number given away, the kernel would fail what is under way on the old file.
    pin: Option<OwnedFd>,
}

impl Node {
    fn new(kind: FileType, generation: u64) -> Self {
        Self { lookups: 0, generation, kind, links: Vec::with_capacity(1), gone: None }
    }

    fn add_link(&mut self, link: Link) {
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
    /// It has no name any more, and looked so at the end.
    Gone(Box<Attr>),
    /// Not by any name that is known.
    Nowhere,
}

impl Nodes {
    /// Notes one lookup that found `attr` under `link`; returns the generation to tell.
    pub fn remember(&self, attr: &Attr, link: Link) -> u64 {
        let mut node = self.0.entry(attr.inode).or_insert_with(|| Node::new(attr.kind, 0));
        if node.gone.is_some() || node.kind != attr.kind {
            // The number was given to a new file while the kernel still knows the old one.
            let lookups = node.lookups;
            *node = Node::new(attr.kind, node.generation + 1);
            node.lookups = lookups;
        }
        node.lookups += 1;
        node.add_link(link);
        node.generation
    }

    /// The generation that [`Nodes::remember`] would tell for `attr`.
    pub fn generation(&self, attr: &Attr) -> u64 {
        self.0.get(&attr.inode).map_or(0, |node| {
            node.generation + u64::from(node.gone.is_some() || node.kind != attr.kind)
        })
    }

    /// Takes back `lookups`; an inode that is left with none is not remembered. Returns the hold on
    /// one that has no name any more.
    pub fn forget(&self, inode: Inode, lookups: u64) -> Option<OwnedFd> {
        let forgotten = self.0.remove_if_mut(&inode, |_, node| {
            node.lookups = node.lookups.saturating_sub(lookups);
            node.lookups == 0
        });
        forgotten?.1.gone?.pin
    }

    /// How the inode can be reached.
    pub fn whereabouts(&self, inode: Inode) -> Whereabouts {
        match self.0.get(&inode) {
            None => Whereabouts::Nowhere,
            Some(node) => match (&node.gone, node.links.first()) {
                (Some(gone), _) => Whereabouts::Gone(Box::new(gone.attr)),
                (None, Some(link)) => Whereabouts::At(link.clone()),
                (None, None) => Whereabouts::Nowhere,
            },
        }
    }

    /// Shows `work` the name by which the inode can be reached, if it can; be brief.
    pub fn with_link<T>(&self, inode: Inode, work: impl FnOnce(&Link) -> T) -> Option<T> {
        let node = self.0.get(&inode)?;
        node.links.first().filter(|_| node.gone.is_none()).map(work)
    }

    /// All names of the inode that are known.
    pub fn links(&self, inode: Inode) -> Vec<Link> {
        self.0.get(&inode).map_or_else(Vec::new, |node| node.links.clone())
    }

    /// One name less. `left` are the attributes afterwards, `pin` what keeps the inode.
    pub fn unlink(&self, link: &Link, left: Attr, pin: Option<OwnedFd>) {
        if let Some(mut node) = self.0.get_mut(&left.inode) {
            node.links.retain(|known| known != link);
            if left.nlink == 0 {
                node.gone = Some(Box::new(Gone { attr: left, pin }));
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

    /// Changes what is remembered of an inode without a name.
    pub fn update_gone(&self, inode: Inode, change: impl FnOnce(&mut Attr)) {
        if let Some(mut node) = self.0.get_mut(&inode)
            && let Some(gone) = &mut node.gone
        {
            change(&mut gone.attr);
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
