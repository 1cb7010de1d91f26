"""Chat templates: ChatML rendered here equals Jinja's own rendering; other templates run in the sandbox."""

from __future__ import annotations

import pytest

import nearhit
from nearhit.tiers import chat
from nearhit.tiers.chat import ChatTemplate, flatten

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] | trim }}{{ eos_token }}{% endfor %}"
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n\nthere  "}],
    [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "{{ 7 * 7 }}"},
    ],
]


@pytest.mark.parametrize("template", [SMOLLM, PLAIN, SMOLLM.replace("\n", "\\n")])
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_chatml_equals_its_own_template(template, messages):
    made = ChatTemplate(template)
    assert made._render == made._chatml
    assert made.render(messages) == chat._jinja(template, "", "")(messages)


def test_other_templates_run_in_the_sandbox():
    template = ChatTemplate(LLAMA, **TOKENS)
    assert template.render([{"role": "user", "content": " Hi "}]) == "<s>[user] Hi</s>"
    with pytest.raises(nearhit.RequestError, match="no such role"):
        template.render([{"role": "bad", "content": "x"}])


@pytest.mark.parametrize("attack", ["{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 1 / 0 }}"])
def test_a_template_cannot_reach_outside(attack):
    with pytest.raises(nearhit.RequestError, match="cannot render"):
        ChatTemplate(attack).render([{"role": "user", "content": "x"}])


def test_a_broken_template():
    with pytest.raises(nearhit.ModelFormatError, match="not valid"):
        ChatTemplate("{% for %}")


def test_a_template_without_jinja_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    ChatTemplate(SMOLLM)
    with pytest.raises(nearhit.MissingDependencyError, match=r"nearhit\[templates\]"):
        ChatTemplate(LLAMA)


def test_contents_become_texts():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert flatten([{"role": "user", "content": parts}, {"role": "assistant", "content": None}]) == [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": ""},
    ]


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text"}, {"type": "text", "text": 3}]
)
def test_what_is_no_text_is_refused(part):
    with pytest.raises(nearhit.RequestError, match="message 0 holds a part"):
        flatten([{"role": "user", "content": [part]}])
