"""Shapes of model output, and the rewrite in each. Written by hand from outputs of small and large models."""

from typing import NamedTuple

CAPTION = "red mug on table"


class Shape(NamedTuple):
    """A completion, and the rewrite that is taken from it."""

    kind: str
    completion: str
    taken: str
    caption: str = CAPTION


MUG = "A red mug sits on a table."
CUP = "There is a red cup on the table."

PLAIN = [
    Shape("plain", f" {MUG}", MUG),
    Shape("plain", f"{MUG}\n", MUG),
    Shape("plain", f"{MUG}  \n\nIMG_3.jpg => A tree.", MUG),
    Shape("plain", "Tom's red mug, half-full, sits on a table", "Tom's red mug, half-full, sits on a table"),
    Shape("plain", f"\n\n  {MUG}\n", MUG),
    Shape("plain", f"\r\n\t{MUG}\r\nmore", MUG),
    Shape("plain", f"---\n{MUG}", MUG),
    Shape("plain", "桌上有一个红色的杯子。", "桌上有一个红色的杯子。"),
]
THINKING = [
    Shape("thinking", f"<think>\nThe user wants a caption.\n</think>\n\n{MUG}", MUG),
    Shape("thinking", f"I should say cup.\n</think>\n\n{MUG}", MUG),
    Shape("thinking", f"<think>a</think>No.<think>\nb\n</think>{MUG}", MUG),
    Shape("thinking", f"<thinking>Short.</thinking> {MUG}", MUG),
    Shape("thinking", f"<reasoning>Short.</reasoning>\n<answer>{MUG}</answer>", MUG),
    Shape("thinking", f"[THINK]Let me see.[/THINK]{MUG}", MUG),
    Shape("thinking", f"<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>{MUG}<|END_RESPONSE|>", MUG),
    Shape("thinking", f"<seed:think>Hm.</seed:think>{MUG}", MUG),
    Shape("thinking", f"\u25c1think\u25b7Hm.\u25c1/think\u25b7{MUG}", MUG),
    Shape("thinking", f"analysisWe need one caption.assistantfinal{MUG}", MUG),
    Shape(
        "thinking",
        f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{MUG}",
        MUG,
    ),
    Shape("thinking", "<think>I should say", "<think>I should say"),
    Shape("thinking", "<think>A mug?</think>\n", "<think>A mug?</think>"),
]
SEPARATORS = [
    Shape("separator", f" {MUG} => {CUP}", MUG),
    Shape("separator", f" => {MUG}", MUG),
    Shape("separator", f" => => {MUG}", MUG),
    Shape("separator", f"=>\n{MUG}", MUG),
    Shape("separator", f" {MUG} => red mug => {MUG} => red mug", MUG),
    Shape("separator", f"red mug on table => {MUG}", MUG),
    Shape("separator", f"-> {MUG}", MUG),
    Shape("separator", f"→ {MUG}", MUG),
]
LISTS = [
    Shape("list mark", f"- {MUG}", MUG),
    Shape("list mark", f"* {MUG}\n* {CUP}", MUG),
    Shape("list mark", f"• {MUG}", MUG),
    Shape("list mark", f"– {MUG}", MUG),
    Shape("list mark", f"1. {MUG}\n2. {CUP}", MUG),
    Shape("list mark", f"1) {MUG}", MUG),
    Shape("list mark", f"(1) {MUG}", MUG),
    Shape("list mark", f"1: {MUG}", MUG),
    Shape("list mark", f"a) {MUG}", MUG),
    Shape("list mark", f"> {MUG}", MUG),
    Shape("list mark", f"### {MUG}", MUG),
    Shape("list mark", "2 red mugs", "2 red mugs"),
    Shape("list mark", "1. FC Union players", "1. FC Union players", "1. FC Union team"),
    Shape("list mark", "3.5 inch disk", "3.5 inch disk"),
]
EMPHASIS = [
    Shape("emphasis", f"**{MUG}**", MUG),
    Shape("emphasis", "A **red mug** sits on a __table__.", MUG),
    Shape("emphasis", f"*{MUG}*", MUG),
    Shape("emphasis", "A _red_ mug sits on a *table*.", MUG),
    Shape("emphasis", f"***{MUG}***", MUG),
    Shape("emphasis", f"`{MUG}`", MUG),
    Shape("emphasis", f"**{MUG}", MUG),
    Shape("emphasis", "A <b>red mug</b> sits on a <em>table</em>.", MUG),
    Shape("emphasis", "5 * 3 red_mug_2.jpg", "5 * 3 red_mug_2.jpg"),
]
QUOTES = [
    Shape("quotes", f'"{MUG}"', MUG),
    Shape("quotes", f"'{MUG}'", MUG),
    Shape("quotes", f"“{MUG}”", MUG),
    Shape("quotes", f"‘{MUG}’", MUG),
    Shape("quotes", f"„{MUG}“", MUG),
    Shape("quotes", f"«{MUG}»", MUG),
    Shape("quotes", f"« {MUG} »", MUG),
    Shape("quotes", f"»{MUG}«", MUG),
    Shape("quotes", f"‹{MUG}›", MUG),
    Shape("quotes", "「桌上有红色的杯子」", "桌上有红色的杯子"),
    Shape("quotes", "『桌上有红色的杯子』", "桌上有红色的杯子"),
    Shape("quotes", f"＂{MUG}＂", MUG),
    Shape("quotes", f"\"'{MUG}'\"", MUG),
    Shape("quotes", f'""{MUG}""', MUG),
    Shape("quotes", '"A red mug sits on a table".', MUG),
    Shape("quotes", f'"{MUG}', MUG),
    Shape("quotes", f'{MUG}"', MUG),
    Shape("quotes", f"“{MUG}\n\nI hope this helps!”", MUG),
    Shape("quotes", f"'{MUG}", MUG),
    Shape("quotes", "'Tom's red mug sits on a table.'", "Tom's red mug sits on a table."),
    Shape("quotes", '"A mug that says "COFFEE"."', 'A mug that says "COFFEE".'),
    Shape("quotes", '\\"A red mug sits on a table.\\"', MUG),
    Shape("quotes", '"One way" sign', '"One way" sign'),
    Shape("quotes", 'A mug says "stop"', 'A mug says "stop"'),
    Shape("quotes", '"Yes" and "no"', '"Yes" and "no"'),
    Shape("quotes", "'Tis the season", "'Tis the season"),
    Shape("quotes", "'80s red mug", "'80s red mug"),
    Shape("quotes", 'Red mug, 12"', 'Red mug, 12"'),
    Shape("quotes", "Mugs of the dogs'", "Mugs of the dogs'"),
]
CODE = [
    Shape("code fence", f"```\n{MUG}\n```", MUG),
    Shape("code fence", f"```text\n{MUG}\n```\nDone.", MUG),
    Shape("code fence", f"Here is the rewritten caption:\n\n```\n{MUG}\n```", MUG),
    Shape("code fence", f"```{MUG}```", MUG),
    Shape("code fence", f"```\n{MUG}", MUG),
    Shape("code fence", f'```json\n{{"caption": "{MUG}"}}\n```', MUG),
    Shape("code fence", f'```json {{"caption": "{MUG}"}}```', MUG),
]
JSON = [
    Shape("JSON", f'{{"caption": "{MUG}"}}', MUG),
    Shape("JSON", f'{{\n  "rewritten_caption": "{MUG}"\n}}\nAnything else?', MUG),
    Shape("JSON", f"{{'caption': '{MUG}'}}", MUG),
    Shape("JSON", f'["{MUG}"]', MUG),
    Shape("JSON", f'{{"result": {{"caption": "{MUG}"}}}}', MUG),
    Shape("JSON", '"A mug that says \\"COFFEE\\"."', 'A mug that says "COFFEE".'),
    Shape("JSON", '"Caf\\u00e9 mug on a table"', "Café mug on a table"),
    Shape("JSON", '{"a": "x y", "b": "x z"}', '{"a": "x y", "b": "x z"}'),
]
TAGS = [
    Shape("tag", f"<caption>{MUG}</caption>", MUG),
    Shape("tag", f"<p>{MUG}</p>", MUG),
    Shape("tag", f"<rewrite>\n{MUG}\n</rewrite>\nDone.", MUG),
    Shape("tag", f'<div class="caption"><p>{MUG}</p></div>', MUG),
    Shape("tag", f"<caption>{MUG}", MUG),
    Shape("tag", f"{MUG}</caption>", MUG),
    Shape("tag", f"{MUG}<br>\n{CUP}", MUG),
    Shape("tag", f"{MUG}<|im_end|>\n<|im_start|>user", MUG),
    Shape("tag", f"<s>{MUG}</s>", MUG),
    Shape("tag", "<PERSON> holds a red mug.", "<PERSON> holds a red mug.", "<PERSON> with mug"),
]
LABELS = [
    Shape("label", f"Caption: {MUG}", MUG),
    Shape("label", f"Alt text: {MUG}", MUG),
    Shape("label", f"Alt-text: {MUG}", MUG),
    Shape("label", f"Rewritten caption: {MUG}", MUG),
    Shape("label", f"Output: {MUG}", MUG),
    Shape("label", f"**Caption:** {MUG}", MUG),
    Shape("label", f"**Rewritten Caption**: {MUG}", MUG),
    Shape("label", f'Rewrite 1: "{MUG}"', MUG),
    Shape("label", f"Option 1: {MUG}\nOption 2: {CUP}", MUG),
    Shape("label", f"New caption：{MUG}", MUG),
    Shape("label", f"Here is a rewritten caption: {MUG}", MUG),
    Shape("label", f"Sure! Here's a rewritten version of the caption:\n\n{MUG}", MUG),
    Shape("label", f"Sure, here you go:\n{MUG}", MUG),
    Shape("label", f"Original caption: red mug on table\nRewritten caption: {MUG}", MUG),
    Shape("label", f"Caption: red mug on table\nRewrite: {MUG}", MUG),
    Shape("label", f"Image: {MUG}", MUG),
    Shape("label", f"Sure!\n\n{MUG}", MUG),
    Shape("label", f"Here you go.\n{MUG}", MUG),
    Shape("label", f"## Rewritten caption\n\n{MUG}", MUG),
    Shape("label", "Great red mug\nA remark", "Great red mug"),
    Shape("label", "Caption: a red mug", "Caption: a red mug", "caption : mug"),
    Shape("label", "Red mug: the best of all", "Red mug: the best of all"),
]
TAILS = [
    Shape("hashtags", f"{MUG} #mug #red", MUG),
    Shape("hashtags", f"{MUG} #mug", MUG),
    Shape("hashtags", "A red mug sits on a table #mug #red #90", "A red mug sits on a table"),
    Shape("hashtags", "A mug at #Yosemite", "A mug at #Yosemite"),
    Shape("hashtags", "Red mug, edition #5", "Red mug, edition #5"),
    Shape("hashtags", "#mug #red", "#mug #red"),
    Shape("second version", f"{MUG} / {CUP}", MUG),
    Shape("second version", f"{MUG} OR {CUP}", MUG),
    Shape("second version", "a red mug sits on a table / a red cup on a table", "a red mug sits on a table"),
    Shape("second version", f"{MUG}\n\nOR\n\n{CUP}", MUG),
    Shape(
        "second version",
        "A house with kitchen / dining room and garden",
        "A house with kitchen / dining room and garden",
    ),
    Shape("second version", "love the colors along w / the branches", "love the colors along w / the branches"),
    Shape("second version", "A black / white cat on a chair", "A black / white cat on a chair"),
    Shape("second version", f"{MUG} / {CUP}", f"{MUG} / {CUP}", "red mug / red cup on table"),
    Shape("second version", "WHEAT AND RICE OR A CORN FIELD", "WHEAT AND RICE OR A CORN FIELD"),
]
CHARACTERS = [
    Shape("entity", "Tom &amp; a red mug&#39;s handle", "Tom & a red mug's handle"),
    Shape("entity", f"&quot;{MUG}&quot;", MUG),
    Shape("entity", f"&lt;p&gt;{MUG}&lt;/p&gt;", MUG),
    Shape("entity", "R&B mug, &copy 2019", "R&B mug, &copy 2019"),
    Shape("control", f"\x1b[31m{MUG}\x1b[0m", MUG),
    Shape("control", "\ufeffA red\x00 mug sits\u200b on a table.\u202e", MUG),
    Shape("control", "Tom\x92s red mug", "Tom’s red mug"),
    Shape("control", f"{MUG}\\n\\nNote: short.", MUG),
]
SHAPES = [
    *(*PLAIN, *THINKING, *SEPARATORS, *LISTS, *EMPHASIS, *QUOTES, *CODE, *JSON, *TAGS, *LABELS, *TAILS, *CHARACTERS),
]
