"""Refuses a GraphQL document that asks for too much work, before anything else walks it.

Fragments let 2 KB of text stand for 2^60 fields, and a thread that computes cannot be stopped. So the text is counted
first, token by token; then the document is walked as it would be expanded, and the walk itself ends at its bounds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    Source,
    TokenKind,
    parse,
)
from graphql.language import Lexer

# The query by which tools ask for the whole schema has 1,500 characters, and 490 selections with its fragments written
# out.
MAX_LENGTH = 16 * 1024
MAX_TOKENS = 1000
MAX_NESTING = 32
MAX_DEFINITIONS = 20
MAX_DIRECTIVES = 20
MAX_ALIASES = 15
MAX_DEPTH = 32
MAX_SELECTIONS = 800
# Each field at the top is a statement of its own.
MAX_TOP_FIELDS = 15
# Fields that share a place in the answer are compared with one another, each with each.
MAX_COMPARISONS = 1000

OPENING = frozenset({TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L})
CLOSING = frozenset({TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R})


def bounded_document(query: str) -> DocumentNode:
    """Return a document as it is parsed; raises `GraphQLError` if it is no GraphQL, or asks for too much."""
    if len(query) > MAX_LENGTH:
        raise GraphQLError(f"the document has {len(query)} characters; at most {MAX_LENGTH} are allowed")
    count_tokens(query)
    document = parse(query)
    check_definitions(document)
    Expansion(document).walk()
    return document


def count_tokens(query: str) -> None:
    """Refuse a text with too many tokens, directives or brackets within brackets.

    The parser would recurse with them.
    """
    lexer = Lexer(Source(query))
    tokens = directives = nesting = 0
    while (kind := lexer.advance().kind) is not TokenKind.EOF:
        tokens += 1
        directives += kind is TokenKind.AT
        nesting += (kind in OPENING) - (kind in CLOSING)
        refuse_above(MAX_TOKENS, tokens, "tokens")
        refuse_above(MAX_DIRECTIVES, directives, "directives")
        refuse_above(MAX_NESTING, nesting, "brackets within one another")


def check_definitions(document: DocumentNode) -> None:
    """Refuse a document with too many operations and fragments, or with two fragments of one name."""
    refuse_above(MAX_DEFINITIONS, len(document.definitions), "operations and fragments")
    names = Counter(one.name.value for one in document.definitions if isinstance(one, FragmentDefinitionNode))
    for name, count in names.items():
        if count > 1:
            raise GraphQLError(f"there are {count} fragments named {name}; give each a name of its own")


Definition = OperationDefinitionNode | FragmentDefinitionNode
# The names of a field and of all fields around it, as the answer has them.
Place = tuple[str, ...]


class Expansion:
    """A document with each spread replaced by its fragment, as far as the bounds go."""

    def __init__(self, document: DocumentNode) -> None:
        self._definitions = [one for one in document.definitions if isinstance(one, Definition)]
        self._fragments: Mapping[str, FragmentDefinitionNode] = {
            one.name.value: one for one in self._definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._selections = 0
        self._aliases = 0
        self._comparisons = 0
        self._named: Counter[Place] = Counter()

    def walk(self) -> None:
        """Walk every operation and every fragment, as the validators do; raises `GraphQLError` at the first bound."""
        for definition in self._definitions:
            self._named.clear()
            top = sum(self._fields(definition.selection_set, (), depth=1))
            if isinstance(definition, OperationDefinitionNode):
                refuse_above(MAX_TOP_FIELDS, top, "fields at the top of an operation")

    def _fields(self, selected: SelectionSetNode, around: Place, depth: int) -> Iterator[int]:
        """Count each field of a selection set, those of its fragments among them, and all that lies below."""
        refuse_above(MAX_DEPTH, depth, "selections and fragments within one another")
        for selection in selected.selections:
            self._selections += 1
            refuse_above(MAX_SELECTIONS, self._selections, "fields, with fragments written out")
            if isinstance(selection, FieldNode):
                self._field(selection, around, depth)
                yield 1
            elif (further := self._fragment(selection)) is not None:
                yield from self._fields(further, around, depth + 1)

    def _field(self, field: FieldNode, around: Place, depth: int) -> None:
        self._aliases += field.alias is not None
        refuse_above(MAX_ALIASES, self._aliases, "aliases")
        place = (*around, (field.alias or field.name).value)
        self._comparisons += self._named[place]
        refuse_above(MAX_COMPARISONS, self._comparisons, "pairs of fields at one place")
        self._named[place] += 1
        if field.selection_set is not None:
            sum(self._fields(field.selection_set, place, depth + 1))

    def _fragment(self, selection: SelectionNode) -> SelectionSetNode | None:
        """Return what a spread stands for; None for a fragment that does not exist, which validation tells."""
        if isinstance(selection, InlineFragmentNode):
            return selection.selection_set
        assert isinstance(selection, FragmentSpreadNode)  # noqa: S101 - there are three kinds
        fragment = self._fragments.get(selection.name.value)
        return None if fragment is None else fragment.selection_set


def refuse_above(most: int, found: int, what: str) -> None:
    """Raise `GraphQLError` if a document has more of something than is allowed."""
    if found > most:
        raise GraphQLError(f"the document has too many {what}: at most {most} are allowed")
