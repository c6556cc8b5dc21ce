//! The tree of files as the rules see it: sources parsed by `syn`, other files as bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item};
use walkdir::WalkDir;

/// Folders that tools fill.
const GENERATED: [&str; 7] = ["target", ".git", "node_modules", "venv", ".venv", "__pycache__", "artifacts"];

/// All files of the repository, by their paths below its root.
pub struct Tree {
    pub files: BTreeMap<String, Vec<u8>>,
    pub sources: Vec<Source>,
}

impl Tree {
    pub fn read(root: &Path) -> Tree {
        let is_ours = |name: &str| !GENERATED.contains(&name);
        let entries = WalkDir::new(root)
            .into_iter()
            .filter_entry(|entry| entry.file_name().to_str().is_some_and(is_ours));
        let mut files = BTreeMap::new();
        for entry in entries {
            let entry = entry.expect("a readable folder");
            // Another test may have removed a file of its own meanwhile.
            let bytes = entry.file_type().is_file().then(|| std::fs::read(entry.path()).ok()).flatten();
            if let Some(bytes) = bytes {
                let path = entry.path().strip_prefix(root).expect("below the root").display().to_string();
                files.insert(path.replace('\\', "/"), bytes);
            }
        }
        Tree::of(files)
    }

    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Tree {
        let is_source = |path: &&String| path.starts_with("src/") && path.ends_with(".rs");
        let source = |path: &String| Source::parse(&path["src/".len()..], &text(&files[path]));
        let sources = files.keys().filter(is_source).map(source).collect();
        Tree { files, sources }
    }

    /// The text of a file; empty if there is none.
    pub fn text(&self, path: &str) -> String {
        self.files.get(path).map(|bytes| text(bytes)).unwrap_or_default()
    }

    /// Sources with code outside tests.
    pub fn code(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| !source.path.ends_with("tests.rs"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A token with its line.
pub struct Word {
    pub text: String,
    pub line: usize,
}

/// A source file.
pub struct Source {
    /// Below `src`, as `store/redis/mod.rs`.
    pub path: String,
    pub text: String,
    /// Outside tests.
    pub items: Items,
    /// The tokens outside tests in order, delimiters included, literals emptied.
    pub words: Vec<Word>,
    /// The modules declared here that are files of their own.
    children: BTreeSet<String>,
}

impl Source {
    fn parse(path: &str, text: &str) -> Source {
        let mut file = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{path}: {error}"));
        remove_tests(&mut file.items);
        let (mut items, mut words) = (Items::default(), Vec::new());
        items.visit_file(&file);
        add_words(file.to_token_stream(), &mut words);
        let children = file.items.iter().filter_map(child).collect();
        Source { path: path.to_owned(), text: text.to_owned(), items, words, children }
    }

    /// The path of the file's module, as `["store", "redis"]`.
    pub fn module(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").expect("a Rust file");
        path.strip_suffix("/mod").unwrap_or(path).split('/').collect()
    }

    pub fn layer(&self) -> &str {
        self.module()[0]
    }

    pub fn is_within(&self, homes: &[&str]) -> bool {
        homes.iter().any(|home| self.path.starts_with(home))
    }

    /// The lines on which a sequence of tokens stands. Blanks in the pattern do not matter.
    pub fn find(&self, pattern: &str) -> Vec<usize> {
        let pattern = split(pattern);
        let matches = |window: &&[Word]| window.iter().map(|word| &word.text).eq(&pattern);
        self.words.windows(pattern.len()).filter(matches).map(|window| window[0].line).collect()
    }

    /// All paths into the crate, from its root: `["store", "Store"]`, with their lines.
    pub fn paths(&self) -> Vec<(Vec<String>, usize)> {
        let module: Vec<String> = self.module().into_iter().map(str::to_owned).collect();
        let mut paths = Vec::new();
        for at in 0..self.words.len() {
            if !self.starts_path(at) {
                continue;
            }
            let (mut at, mut base) = match self.words[at].text.as_str() {
                "crate" => (at + 3, Vec::new()),
                "otpost" if self.path == "main.rs" => (at + 3, Vec::new()),
                "self" => (at + 3, module.clone()),
                "super" => (at + 3, above(&module)),
                child if self.children.contains(child) => (at, module.clone()),
                _ => continue,
            };
            while self.words[at].text == "super" {
                (at, base) = (at + 3, above(&base));
            }
            self.expand(at, &base, &mut paths);
        }
        paths
    }

    /// A path of two segments or more starts here.
    fn starts_path(&self, at: usize) -> bool {
        let is = |at: usize, text: &str| self.words.get(at).is_some_and(|word| word.text == text);
        let goes_on = at > 1 && is(at - 1, ":") && is(at - 2, ":");
        // `pub(in crate::cli)` names a module and nothing of it.
        let is_visibility = at > 2 && is(at - 1, "in") && is(at - 2, "(") && is(at - 3, "pub");
        let is_macro = at > 0 && is(at - 1, "$");
        is(at + 1, ":") && is(at + 2, ":") && !goes_on && !is_visibility && !is_macro
    }

    /// Follows one branch of a path; answers the position after it.
    fn expand(&self, at: usize, base: &[String], paths: &mut Vec<(Vec<String>, usize)>) -> usize {
        let is = |at: usize, text: &str| self.words.get(at).is_some_and(|word| word.text == text);
        if is(at, "{") {
            let mut at = at + 1;
            while !is(at, "}") {
                at = self.expand(at, base, paths);
                at += usize::from(is(at, ","));
            }
            return at + 1;
        }
        let path = [base, &[self.words[at].text.clone()]].concat();
        let continues = is(at + 1, ":") && is(at + 2, ":") && !is(at + 3, "<");
        if continues {
            return self.expand(at + 3, &path, paths);
        }
        paths.push((path, self.words[at].line));
        if is(at + 1, "as") { at + 3 } else { at + 1 }
    }
}

/// The facts that rules need of a file's items, each with its line.
#[derive(Default)]
pub struct Items {
    pub traits: Vec<String>,
    /// Structs and enums.
    pub types: Vec<Type>,
    pub implementations: Vec<Implementation>,
    pub functions: Vec<Function>,
    pub globs: Vec<usize>,
}

pub struct Type {
    pub name: String,
    pub derives_debug: bool,
    pub line: usize,
}

pub struct Implementation {
    pub of: String,
    pub for_type: String,
    pub line: usize,
}

pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl Items {
    fn add_type(&mut self, name: &syn::Ident, attributes: &[Attribute]) {
        let is_debug = |attribute: &Attribute| {
            attribute.path().is_ident("derive")
                && attribute.meta.to_token_stream().to_string().contains("Debug")
        };
        let derives_debug = attributes.iter().any(is_debug);
        self.types.push(Type { name: name.to_string(), derives_debug, line: name.span().start().line });
    }

    fn add_function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let (line, end) = (signature.fn_token.span.start().line, body.span().end().line);
        self.functions.push(Function { name: signature.ident.to_string(), line, lines: end - line + 1 });
    }
}

impl<'a> Visit<'a> for Items {
    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.traits.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.add_type(&item.ident, &item.attrs);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.add_type(&item.ident, &item.attrs);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let last = |path: &syn::Path| path.segments.last().map(|segment| segment.ident.to_string());
        if let (Some((path, ..)), syn::Type::Path(of)) = (&item.trait_, &*item.self_ty) {
            let (of, for_type) = (last(path).unwrap_or_default(), last(&of.path).unwrap_or_default());
            self.implementations.push(Implementation {
                of,
                for_type,
                line: item.impl_token.span.start().line,
            });
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.add_function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.add_function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.add_function(&function.sig, body);
        }
    }

    fn visit_use_glob(&mut self, glob: &'a syn::UseGlob) {
        self.globs.push(glob.span().start().line);
    }
}

fn above(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

/// Splits a pattern into tokens: words and single signs.
fn split(pattern: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in pattern.chars() {
        let is_word = character.is_alphanumeric() || character == '_';
        match tokens.last_mut() {
            Some(last) if is_word && in_word => last.push(character),
            _ if character.is_whitespace() => {}
            _ => tokens.push(character.to_string()),
        }
        in_word = is_word;
    }
    tokens
}

fn child(item: &Item) -> Option<String> {
    match item {
        Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    }
}

fn remove_tests(items: &mut Vec<Item>) {
    items.retain(|item| !attributes(item).iter().any(is_for_tests));
    for item in items {
        match item {
            Item::Mod(module) => {
                if let Some((_, items)) = &mut module.content {
                    remove_tests(items);
                }
            }
            Item::Impl(block) => block.items.retain(|item| match item {
                ImplItem::Fn(function) => !function.attrs.iter().any(is_for_tests),
                _ => true,
            }),
            _ => {}
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string() == "cfg (test)"
}

fn add_words(tokens: TokenStream, words: &mut Vec<Word>) {
    let word = |text: &str, span: Span| Word { text: text.to_owned(), line: span.start().line };
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                words.push(word(open, group.span_open()));
                add_words(group.stream(), words);
                words.push(word(close, group.span_close()));
            }
            TokenTree::Literal(literal) => words.push(word("", literal.span())),
            other => words.push(word(&other.to_string(), other.span())),
        }
    }
}
