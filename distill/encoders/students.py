"""Students to train: a cut of the teacher's own layers, or any backbone."""

# no annotations from __future__: the command line reads the types of these dataclasses, which it cannot once they are texts
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distill.encoders.encoder import Encoder
from distill.encoders.fit_projection import MOST_TEXTS, fit_projection
from distill.encoders.folder import has_module_list, load_encoder
from distill.encoders.hub import local_folder
from distill.encoders.layer_cuts import OTHER_START, check_layers, keep_layers, turn_off_dropout
from distill.encoders.maker import Maker
from distill.encoders.modules import Dense, FirstModule, Normalize, Transformer
from distill.encoders.narrow_table import check_table_width, narrow_table
from distill.encoders.pooling import Pooling, PoolingMode
from distill.encoders.tokenizing import refuse_long_prompts
from distill.encoders.towers import load_maker
from distill.encoders.transformer_folder import choose_length
from distill.encoders.vocabulary import TokenCounter, VocabularySize, check_vocabulary, prune_by_texts
from distill.files.configs import Configurable
from distill.files.progress import log
from distill.records import BadInput

Projection = Literal["none", "linear"]
# read_targets(student, most) returns the token ids [L] of up to `most` training queries, cut for the student, and the teacher's
# vectors [N, D] of these
ReadTargets = Callable[[Encoder, int], tuple[Sequence[np.ndarray], np.ndarray]]
LONGEST_PROMPT = 5  # tokens before a query that a student keeps unasked


@dataclass(frozen=True)
class TeacherSpace:
    """The embedding space a student has to write into."""

    maker: Maker  # the model that wrote the store
    width: int
    normalized: bool


class StudentSpec(Configurable):
    """How to make the student; one subclass for each way, which defines `build`."""

    max_length: int | None = None  # tokens of a text; None keeps the limit of the model that the student is made from
    vocabulary: VocabularySize | None = None  # tokens to keep; None keeps all
    table_width: int | None = None  # numbers in a row of the word table; None leaves the table as wide as the layers
    kept_vocabulary = ""  # what share of tokens the last student kept, in words; empty where nothing was asked for
    dropped_prompt = ""  # of the model that the last student was made from, where that does not read it unasked

    def make_student(
        self,
        teacher: TeacherSpace,
        prompt: str | None = None,
        count_tokens: TokenCounter | None = None,
        read_targets: ReadTargets | None = None,
    ) -> Encoder:
        """A new student for the teacher's space, with the longest text, the tokens and the width of rows that the settings say.

        Args:
            teacher: the space to write into.
            prompt: what the student reads before each query, as `choose_prompt` has it.
            count_tokens: counts the tokens of the texts that it learns from, for `vocabulary`.
            read_targets: reads what narrow rows and `fit_start` fit the start to; None leaves it random there, for weights to be loaded.
        """
        student = self.build(teacher).limit_length(self.max_length)
        own, chosen = student.settings.prompts.get("query") or "", choose_prompt(prompt, student, teacher.maker)
        self.dropped_prompt = own if prompt is None and chosen != own else ""
        student = student.set_query_prompt(chosen)
        refuse_long_prompts(student.tokenizer, student.settings)
        if self.vocabulary is not None:
            student, self.kept_vocabulary = prune_by_texts(student, self.vocabulary, count_tokens)
        if self.table_width is not None:
            student = narrow_table(student, self.table_width, None if read_targets is None else read_targets(student, MOST_TEXTS)[0])
        if read_targets is not None:
            self.fit_start(student, read_targets)
        return student

    def fit_start(self, student: Encoder, read_targets: ReadTargets) -> None:
        """Fits a new student to the teacher's vectors of training queries before the first step; by default it does nothing."""

    def build(self, teacher: TeacherSpace) -> Encoder:
        """A new student whose vectors are as wide as the teacher's."""
        raise NotImplementedError


@dataclass
class StudentFromTeacher(StudentSpec):
    """A student cut out of the teacher's own transformer.

    Args:
        layers: how many of the teacher's layers to keep, the first and the last among them; or their numbers, counted from 0, e.g.
            [0, 5]. Keep the last one: the head was trained on it.
        teacher: folder or hub name to cut; by default the model that made the store.
        max_length: tokens of a text, special tokens included; by default as many as the teacher reads.
        vocabulary: number of tokens to keep, the most frequent of the training queries and documents; or `used` for all that these
            use (100,000 of each are read); by default all of the teacher's. Special tokens and single characters are always kept.
        table_width: numbers in a row of the word table, e.g. 128, which a linear layer makes as wide as the layers; by default as wide
            as these. Of BERT, RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA.

    >>> StudentFromTeacher([0, 5], max_length=64, table_width=128).init_args
    {'layers': [0, 5], 'teacher': None, 'max_length': 64, 'vocabulary': None, 'table_width': 128}
    """

    layers: int | list[int] = 2
    teacher: str | None = None
    max_length: int | None = None
    vocabulary: VocabularySize | None = None
    table_width: int | None = None

    def __post_init__(self) -> None:
        check_layers(self.layers)
        check_vocabulary(self.vocabulary)
        check_table_width(self.table_width)

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = self.load_whole(teacher.maker)
        if encoder.width != teacher.width:
            raise BadInput(f"{self.teacher}: {encoder.width} wide, the teacher's vectors are {teacher.width}: cut the store's maker")
        if encoder.runs_remote_code:
            raise BadInput(f"{teacher.maker.name}: runs Python code of its folder, a student does not: {OTHER_START}")
        cut = Transformer(keep_layers(encoder.backbone, self.layers).float())  # trained in fp32, whatever the teacher's weights are in
        pooling = Pooling(*encoder.pooling.modes)  # of all tokens: a student learns to do without its teacher's prompt
        return Encoder([cut, pooling, *encoder.head], encoder.tokenizer, encoder.settings)

    def load_whole(self, maker: Maker) -> Encoder:
        """Loads the encoder to cut, which cuts texts where the store's maker did."""
        return load_maker(maker).query if self.teacher is None else load_encoder(self.teacher, max_length=maker.max_length)


@dataclass
class StudentFromBackbone(StudentSpec):
    """Any encoder by folder or hub name as the student.

    Args:
        name: folder or hub name.
        projection: linear adds a layer from the student's width to the teacher's; it begins as the best fit to the teacher's vectors of
            training queries, is trained, and saved with the student.
        pooling: cls, mean or another mode of a `Pooling`; only for a plain transformers folder, a sentence-transformers folder holds it.
        max_length: tokens of a text, special tokens included; by default as many as the folder sets.
        keep_layers: how many of its layers to keep, or their numbers, as `layers` of `StudentFromTeacher`; all by default.
        vocabulary: how many of its tokens to keep, as `vocabulary` of `StudentFromTeacher`; all by default.
        table_width: numbers in a row of the word table, as `table_width` of `StudentFromTeacher`.
    """

    name: str
    projection: Projection = "none"
    pooling: PoolingMode | None = None
    max_length: int | None = None
    keep_layers: int | list[int] | None = None
    vocabulary: VocabularySize | None = None
    table_width: int | None = None

    def __post_init__(self) -> None:
        check_vocabulary(self.vocabulary)
        check_table_width(self.table_width)
        if self.keep_layers is not None:
            check_layers(self.keep_layers)

    def build(self, teacher: TeacherSpace) -> Encoder:
        if not self.pooling and not has_module_list(local_folder(self.name)):
            raise BadInput(f"model.student: {self.name} is a plain transformers folder: set pooling, e.g. to cls or mean")
        encoder = self.load_whole(teacher.maker)
        if encoder.width != teacher.width and self.projection == "none":
            raise BadInput(f"teacher vectors are {teacher.width} wide, student is {encoder.width}: set projection: linear")
        head = [module for module in encoder.head if not isinstance(module, Normalize)]
        if self.projection == "linear":
            head.append(Dense(encoder.width, teacher.width, bias=False))
        if teacher.normalized:
            head.append(Normalize())
        first: FirstModule = encoder.transformer
        if self.keep_layers is not None:
            first = Transformer(keep_layers(encoder.backbone, self.keep_layers))
        elif first.has_layers:
            turn_off_dropout(encoder.backbone)
        return Encoder([first, Pooling(*encoder.pooling.modes), *head], encoder.tokenizer, encoder.settings)

    def load_whole(self, maker: Maker) -> Encoder:
        """Loads the encoder to begin from; whether a student normalises its vectors follows from those of `maker`."""
        encoder = load_encoder(self.name, self.pooling, None if self.pooling is None else False)
        if self.max_length is not None and encoder.transformer.has_layers:  # also more than its folder sets, as many as it has positions
            length = choose_length(encoder.backbone, encoder.tokenizer, None, self.max_length)
            encoder.settings = replace(encoder.settings, max_length=length)
        return encoder

    def fit_start(self, student: Encoder, read_targets: ReadTargets) -> None:
        if self.projection == "linear":
            log.info("fitting the projection to the teacher's vectors of training queries")
            fit_projection(student, *read_targets(student, MOST_TEXTS))


def choose_prompt(prompt: str | None, student: Encoder, maker: Maker) -> str:
    """Chooses what a student reads before each query.

    Args:
        prompt: `teacher` for the prompt of the teacher's queries, `none`, or any other text; None keeps the prompt of the model that the
            student is made from, but no instruction of more than five tokens, which would cost time with every query.
        student: has the prompts of the model that it is made from.
        maker: the teacher.
    """
    own = student.settings.prompts.get("query") or ""
    if prompt == "teacher":
        if maker.prompts is None and maker.origin in ("import", "function"):
            raise BadInput(f"model.student_prompt: teacher: nobody said which prompt {maker.name} reads: give its text")
        prompts = load_maker(maker).query.settings.prompts if maker.is_loadable else maker.prompts or {}
        return prompts.get("query") or ""
    if prompt is not None:
        return "" if prompt == "none" else prompt
    tokens = student.tokenizer(own, add_special_tokens=False)["input_ids"] if own else []
    if len(tokens) <= LONGEST_PROMPT:
        return own
    fix = "model.student_prompt: teacher keeps them"
    log.info(f"the student reads queries without the {len(tokens)} tokens {own!r:.60} before them: {fix}")
    return ""
