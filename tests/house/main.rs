//! The rules of the house that take more than a search: which layer may name which, and that no files
//! of src import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// From the top down: a layer may name those after it.
const LAYERS: [&str; 12] = [
    "cli", "daemon", "control", "service", "fuse", "fs", "store", "trail", "keys", "format",
    "crypto", "sys",
];

/// A module's path from the crate's root, which is empty.
type Module = Vec<String>;

/// A path as it stands in the code: `crate::fs::Inode`, `super::X`.
type Named = Vec<String>;

/// What a file of src defines and names, without its tests.
#[derive(Default)]
struct Source {
    file: PathBuf,
    defined: BTreeSet<String>,
    /// What `pub use` gives another name to: the name, and what it stands for.
    exported: BTreeMap<String, Named>,
    named: BTreeSet<Named>,
}

struct Crate(BTreeMap<Module, Source>);

impl Crate {
    fn read() -> Self {
        let mut sources = BTreeMap::new();
        read_directory(Path::new("src"), &Vec::new(), &mut sources);
        Self(sources)
    }

    /// The module in which what `from` calls `named` is defined; `None` for what is of another crate.
    fn resolve(&self, from: &Module, named: &[String]) -> Option<&Module> {
        let (mut at, mut rest) = (from.clone(), named);
        match named.first().map(String::as_str) {
            Some("crate" | "atrest") => (at, rest) = (Module::new(), &named[1..]),
            Some("self") => rest = &named[1..],
            Some("super") => {}
            Some(first) if self.has(&at, first) => {}
            _ => return None,
        }
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "super" => _ = at.pop(),
                name => {
                    let source = self.0.get(&at)?;
                    let child = [at.as_slice(), &[name.to_owned()]].concat();
                    if self.0.contains_key(&child) {
                        at = child;
                    } else if let Some(stands_for) = source.exported.get(name) {
                        return self.resolve(&at, &[stands_for, others].concat());
                    } else {
                        break;
                    }
                }
            }
            rest = others;
        }
        self.0.get_key_value(&at).map(|(module, _)| module)
    }

    fn has(&self, module: &Module, name: &str) -> bool {
        let child = [module.as_slice(), &[name.to_owned()]].concat();
        self.0.contains_key(&child) || self.0[module].defined.contains(name)
    }

    /// The modules other than `from` in which what it calls `named` is defined.
    fn others<'a>(
        &self,
        from: &Module,
        named: impl Iterator<Item = &'a Named>,
    ) -> BTreeSet<&Module> {
        named.filter_map(|named| self.resolve(from, named)).filter(|other| *other != from).collect()
    }

    /// The modules that each one names, but by giving what they define another name.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let edges_of = |(module, source): (_, &Source)| {
            let others = self.others(module, source.named.iter());
            (module, others)
        };
        self.0.iter().map(edges_of).collect()
    }

    fn file(&self, module: &Module) -> String {
        self.0[module].file.display().to_string()
    }
}

fn read_directory(directory: &Path, module: &Module, sources: &mut BTreeMap<Module, Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let child = [module.as_slice(), std::slice::from_ref(&stem)].concat();
        if path.is_dir() && stem != "tests" {
            read_directory(&path, &child, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let at = match stem.as_str() {
                "mod" | "lib" => module.clone(),
                "main" | "tests" => continue,
                _ => child,
            };
            let code = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            let mut source = Source { file: path, ..Source::default() };
            source.visit_file(&code);
            assert!(sources.insert(at, source).is_none(), "two files are one module");
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        let (name, attributes) = match item {
            Item::Const(item) => (Some(&item.ident), &item.attrs),
            Item::Enum(item) => (Some(&item.ident), &item.attrs),
            Item::Fn(item) => (Some(&item.sig.ident), &item.attrs),
            Item::Macro(item) => (item.ident.as_ref(), &item.attrs),
            Item::Mod(item) => (None, &item.attrs),
            Item::Static(item) => (Some(&item.ident), &item.attrs),
            Item::Struct(item) => (Some(&item.ident), &item.attrs),
            Item::Trait(item) => (Some(&item.ident), &item.attrs),
            Item::Type(item) => (Some(&item.ident), &item.attrs),
            Item::Union(item) => (Some(&item.ident), &item.attrs),
            Item::Use(item) => (None, &item.attrs),
            Item::Impl(item) => (None, &item.attrs),
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        self.defined.extend(name.map(ToString::to_string));
        if let Item::Use(item) = item {
            let is_export = !matches!(item.vis, Visibility::Inherited);
            return self.take_use(&item.tree, Named::new(), is_export);
        }
        visit::visit_item(self, item);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.take_words(&called.tokens.to_string());
        visit::visit_macro(self, called);
    }

    fn visit_meta_list(&mut self, arguments: &'ast syn::MetaList) {
        self.take_words(&arguments.tokens.to_string());
        visit::visit_meta_list(self, arguments);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let named = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.named.insert(named);
        visit::visit_path(self, path);
    }
}

impl Source {
    /// Takes the paths out of what is no code to the parser: a macro's or an attribute's words.
    fn take_words(&mut self, words: &str) {
        let words = words.replace(" :: ", "::");
        let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in words.split(|c| !is_of_path(c)) {
            if ["crate::", "super::", "self::"].iter().any(|first| word.starts_with(first)) {
                self.named.insert(word.split("::").map(str::to_owned).collect());
            }
        }
    }

    fn take_use(&mut self, tree: &UseTree, mut prefix: Named, is_export: bool) {
        let (last, name) = match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                return self.take_use(&path.tree, prefix, is_export);
            }
            UseTree::Group(group) => {
                return group
                    .items
                    .iter()
                    .for_each(|tree| self.take_use(tree, prefix.clone(), is_export));
            }
            UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
            UseTree::Glob(_) => {
                self.named.insert(prefix);
                return;
            }
        };
        if last != "self" {
            prefix.push(last);
        }
        if is_export {
            self.exported.insert(name, prefix);
        } else {
            self.named.insert(prefix);
        }
    }
}

/// The sets of modules of which each reaches all the others (Tarjan 1972), of more than one.
fn circles<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<Vec<&'a Module>> {
    struct Search<'a, 'e> {
        edges: &'e BTreeMap<&'a Module, BTreeSet<&'a Module>>,
        /// When each was come to, and the earliest that it reaches.
        seen: BTreeMap<&'a Module, (usize, usize)>,
        stack: Vec<&'a Module>,
        circles: Vec<Vec<&'a Module>>,
    }
    impl<'a> Search<'a, '_> {
        fn visit(&mut self, module: &'a Module) -> usize {
            let index = self.seen.len();
            self.seen.insert(module, (index, index));
            self.stack.push(module);
            let mut low = index;
            for &other in &self.edges[module] {
                match self.seen.get(other) {
                    None => low = low.min(self.visit(other)),
                    Some((at, _)) if self.stack.contains(&other) => low = low.min(*at),
                    Some(_) => {}
                }
            }
            if low == index {
                let from = self.stack.iter().rposition(|at| *at == module).unwrap();
                let circle = self.stack.split_off(from);
                if circle.len() > 1 {
                    self.circles.push(circle);
                }
            }
            low
        }
    }
    let mut search =
        Search { edges, seen: BTreeMap::new(), stack: Vec::new(), circles: Vec::new() };
    for module in edges.keys() {
        if !search.seen.contains_key(module) {
            search.visit(module);
        }
    }
    search.circles
}

#[test]
fn a_layer_names_only_those_below() {
    let sources = Crate::read();
    let rank = |module: &Module| {
        LAYERS.iter().position(|layer| module.first().is_some_and(|first| first == layer))
    };
    let mut breaches = Vec::new();
    for (module, source) in &sources.0 {
        for other in sources.others(module, source.named.iter().chain(source.exported.values())) {
            if let (Some(from), Some(to)) = (rank(module), rank(other))
                && to < from
            {
                breaches.push(format!("{} names {}", sources.file(module), sources.file(other)));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    let known: BTreeSet<_> = LAYERS.into_iter().collect();
    let found: BTreeSet<_> = sources
        .0
        .keys()
        .filter(|module| module.len() > 1)
        .map(|module| module[0].as_str())
        .collect();
    assert_eq!(found, known);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = Crate::read();
    let edges = sources.edges();
    let said = circles(&edges).into_iter().map(|circle| {
        let lines = circle.iter().map(|module| {
            let inside = edges[*module].iter().filter(|other| circle.contains(other));
            let inside: Vec<_> = inside.map(|other| sources.file(other)).collect();
            format!("  {} names {}", sources.file(module), inside.join(", "))
        });
        format!("a circle of {} files:\n{}", circle.len(), lines.collect::<Vec<_>>().join("\n"))
    });
    let said: Vec<_> = said.collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// What finds circles finds them.
#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let [a, b, c, d] = ["a", "b", "c", "d"].map(module);
    let edges = BTreeMap::from([
        (&a, BTreeSet::from([&b])),
        (&b, BTreeSet::from([&c])),
        (&c, BTreeSet::from([&a, &d])),
        (&d, BTreeSet::new()),
    ]);
    let mut found = circles(&edges);
    found.iter_mut().for_each(|circle| circle.sort());
    assert_eq!(found, [vec![&a, &b, &c]]);
}

/// Each path that the contributors' chapter names is there.
#[test]
fn the_contributors_chapter_names_what_there_is() {
    let text = fs::read_to_string("src/manual/contributing.md").unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        ["src/", "tests/", "scripts/", ".config/"].iter().any(|root| word.starts_with(root))
    };
    let paths: Vec<_> = quoted.filter(is_path).collect();
    assert!(paths.len() > 20, "{}", paths.len());
    let missing: Vec<_> = paths.into_iter().filter(|path| !Path::new(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
