"""`--format`: the templates that people use with docker mean the same here."""

from __future__ import annotations

import pytest

from wherry.cli.template import Template
from wherry.errors import InvalidRequest

VALUE = {
    "Id": "abc",
    "State": {"Running": True, "Pid": 7, "Error": ""},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": None},
    "Names": "x",
}

RENDERED = {
    "{{.Id}}": "abc",
    "{{ .State.Pid }} {{.State.Running}}": "7 true",
    "{{.Config.Cmd}}": "<no value>",
    "{{json .State}}": '{"Running":true,"Pid":7,"Error":""}',
    "{{json .}}": None,
    '{{index .Config.Labels "a"}}{{index .Config.Labels "nope"}}': "1",
    "{{index .Config.Env 1}}": "B=2",
    "{{range .Config.Env}}{{.}};{{end}}": "A=1;B=2;",
    "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}": "a=1 b=2 ",
    "{{range .Config.Cmd}}x{{else}}none{{end}}": "none",
    "{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}": "A=1,B=2",
    "{{if .State.Running}}up{{else}}down{{end}}": "up",
    "{{if .State.Error}}bad{{else}}good{{end}}": "good",
    "{{if not .State.Error}}good{{end}}": "good",
    '{{if eq .Id "abc"}}yes{{end}}': "yes",
    "{{with .State}}{{.Pid}}{{end}}": "7",
    '{{join .Config.Env ","}}': "A=1,B=2",
    "{{len .Config.Env}}": "2",
    "{{.Id | upper}}": "ABC",
    "{{upper .Id | lower}}": "abc",
    '{{printf "%s-%d" .Id .State.Pid}}': "abc-7",
    "{{.Config.Env}}": "[A=1 B=2]",
    "{{.Config.Labels}}": "map[a:1 b:2]",
    "a {{- .Id -}} b": "aabcb",
    "{{/* nothing */}}x": "x",
    "{{range .Config.Env}}{{if eq . (index $.Config.Env 0)}}first{{end}}{{end}}": "first",
    "a\\tb": "a\tb",
    "plain": "plain",
}


@pytest.mark.parametrize("text", RENDERED)
def test_templates(text: str) -> None:
    rendered = Template(text).render(VALUE)
    assert RENDERED[text] is None or rendered == RENDERED[text]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{.Nope}}", "can't evaluate field Nope"),
        ("{{.Id.More}}", "can't evaluate field More"),
        ("{{nope .Id}}", 'function "nope" not defined'),
        ("{{range .Config.Env}}", "not closed"),
        ("{{end}}", "unexpected"),
        ("{{$x}}", "undefined variable"),
        ("{{index .Config.Env 9}}", "error calling index"),
        ("{{}}", "missing value"),
    ],
)
def test_what_we_do_not_know_is_refused_not_printed_wrong(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words.replace("$", r"\$")):
        Template(text).render(VALUE)
