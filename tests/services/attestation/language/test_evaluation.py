"""Policies do what is published of them, and a refusal names the rule and the claim."""

from __future__ import annotations

import pytest

from kluis.errors import PolicyError
from kluis.services.attestation.language import Claim, Issuer, default_policy, evaluate, parse
from kluis.services.attestation.language.claims import of_mapping
from kluis.services.attestation.language.evaluation import Outcome
from tests.pace import within
from tests.services.attestation.language.examples import EXAMPLES, SGX, Example


def _run(policy: str, claims: dict[str, object], custom: dict[str, object] | None = None) -> Outcome:
    given = [*of_mapping(claims), *of_mapping(custom or {}, Issuer.CUSTOM)]
    return evaluate(parse(policy), given)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples(example: Example) -> None:
    """Each published policy ends as it is stated to."""
    outcome = _run(example.policy, example.claims, example.custom)
    assert outcome.permitted is (example.token is not None)
    if example.token is not None:
        outcome.require()
        assert outcome.issued == example.token
    else:
        with pytest.raises(PolicyError, match="A Deny claim was issued, authorization failed") as caught:
            outcome.require()
        assert caught.value.code == "policy_evaluation"


def test_default_of_sgx() -> None:
    """The default issues the old names in addition to the new ones, and requires Azure's baseline."""
    outcome = _run(default_policy("SgxEnclave") or "", SGX)
    assert outcome.issued == {
        "is-debuggable": False,
        "sgx-mrsigner": "mrsigner1",
        "sgx-mrenclave": "mrenclave1",
        "product-id": 1,
        "svn": 2,
        "tee": "sgx",
    }
    assert outcome.properties == {"x-ms-sgx-tcbidentifier": "azuredefault"}


@pytest.mark.parametrize("name", ["SevSnpVm", "TdxVm", "AzureGuest", "OpenEnclave", "SGXENCLAVE"])
def test_defaults_permit(name: str) -> None:
    """Every default permits evidence with nothing wrong; a TPM has none."""
    assert _run(default_policy(name) or "", {"secureboot": True}).permitted
    assert default_policy("Tpm") is None


def test_default_of_guests_denies_by_claim() -> None:
    """The default of guests denies a machine without secure boot, and names the rule."""
    outcome = _run(default_policy("AzureGuest") or "", {"secureboot": False})
    with pytest.raises(PolicyError, match=r"rule 5:2: \[type==\"secureboot\", value==false\] => deny\(\);"):
        outcome.require()


def test_a_refusal_names_rule_and_claim() -> None:
    """A refusal names the unmet condition, and the actual value."""
    outcome = _run('version=1.0; authorizationrules{ [type=="x-ms-sgx-svn", value>=3] => permit(); };', SGX)
    with pytest.raises(PolicyError) as caught:
        outcome.require()
    message = caught.value.message
    assert '1:34: want [type=="x-ms-sgx-svn", value>=3], got x-ms-sgx-svn is 2' in message
    absent = _run('version=1.0; authorizationrules{ [type=="rare"] => permit(); };', SGX)
    with pytest.raises(PolicyError, match="got rare is absent"):
        absent.require()
    any_value = _run('version=1.0; authorizationrules{ [value=="rare"] => permit(); };', SGX)
    with pytest.raises(PolicyError, match="got no claim of the kind"):
        any_value.require()


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        ('value=="1"', 1, False),
        ('value!="1"', 1, True),
        ("value==1", 1, True),
        ("value==1", True, False),
        ("value==true", 1, False),
        ("value<=0x10", 16, True),
        ("value<-5", -6, True),
        ("value>5", 5, False),
        ("value>=5", "5", False),
        ('valueType=="Integer"', 5, True),
        ('valueType=="Boolean"', True, True),
        ('issuer=="AttestationService"', "x", True),
        ('value=="a\\"b\\\\c"', 'a"b\\c', True),
    ],
)
def test_comparisons(test: str, value: object, holds: bool) -> None:
    """Text, integers and booleans of equal spelling are different."""
    policy = f'version=1.0; authorizationrules{{ [type=="c", {test}] => permit(); }};'
    assert _run(policy, {"c": value}).permitted is holds


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ('issue(type="x", value=JsonToClaimValue("1.5"))', "want text, integers and booleans, got float"),
        ('issue(type="x", value=JsonToClaimValue("{}"))', "want text, integers and booleans, got dict"),
        ('issue(type="x", value=JsonToClaimValue("[[1]]"))', "want text, integers and booleans, got list"),
        ('issue(type="x", value=JmesPath("{", "a"))', "JmesPath: "),
        ('issue(type="x", value=JmesPath("{}", "a["))', "JmesPath: "),
        ('issue(type="x", value=JmesPath("", "a"))', "want JSON of at most"),
        ('issue(type="x", value=NegateBool("true"))', "NegateBool: want one bool, got str"),
        ('issue(type="x", value=AppendString("a", 1))', "AppendString: want one str, got int"),
        ("issue(type=1, value=1)", "type: want one str, got int"),
        ('issue(type="x", value=1, valueType="String")', "valueType: want String, got Integer"),
        ('issue(type="x", value=ContainsOnlyValue("a", JsonToClaimValue("null")))', "want one value, got 0"),
    ],
)
def test_what_fails(action: str, problem: str) -> None:
    """An action that fails is a refusal with its rule, and no token without the claim."""
    policy = f"version=1.2; authorizationrules{{ => permit(); }}; issuancerules{{ => {action}; }};"
    with pytest.raises(PolicyError) as caught:
        _run(policy, {})
    assert problem in caught.value.message
    assert "rule 1:65: => issue(" in caught.value.message


def test_read_only_claims_are_not_issued() -> None:
    """What may only be read does not leave: not as it is, nor through a function; a judgement of it may."""
    pcrs = Claim("pcrs", '{"PCRs":[1]}', read_only=True)

    def run(action: str) -> Outcome:
        issuance = f'c:[type=="pcrs"] => {action};'
        policy = f"version=1.2; authorizationrules{{ => permit(); }}; issuancerules{{ {issuance} }};"
        return evaluate(parse(policy), [pcrs])

    for action in (
        "issue(claim=c)",
        'issue(type="x", value=JmesPath(c.value, "PCRs[0]"))',
        "issue(type=c.value, value=1)",
        'add(type="x", value=1, issuer=c.value)',
    ):
        with pytest.raises(PolicyError, match="is for reading only"):
            run(action)
    assert run('issue(type="ok", value=ContainsOnlyValue(JmesPath(c.value, "PCRs[0]"), "1"))').issued == {
        "ok": True
    }
    assert run('add(type="x", value=c.value)').issued == {}


def test_several_values_and_identical_claims() -> None:
    """A type issued twice with two values is a list; the same twice is one."""
    policy = """version=1.0; authorizationrules{ => permit(); }; issuancerules{
        => issue(type="x", value=1); => issue(type="x", value=2); => issue(type="x", value=1);
        => issue(type="t", value=true); => issue(type="t", value=1); };"""
    assert _run(policy, {}).issued == {"x": [1, 2], "t": [True, 1]}


def test_one_value_of_two_issuers() -> None:
    """What two say alike is one value in a token, which has no issuers."""
    policy = """version=1.0; authorizationrules{ => permit(); }; issuancerules{
        c:[type=="OSName"] => issue(claim=c); c:[type=="OSName"] => issueproperty(claim=c); };"""
    outcome = _run(policy, {"OSName": "Win"}, {"OSName": "Win"})
    assert outcome.issued == outcome.properties == {"OSName": "Win"}
    assert _run(policy, {"OSName": "Win"}, {"OSName": ["Lin", "Win"]}).issued == {"OSName": ["Win", "Lin"]}


def _configured(rules: str) -> str:
    return f"version=1.2; configurationrules{{ {rules} }}; authorizationrules{{ => permit(); }};"


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (
            '=> issueproperty(type="required_pcr_mask", value=1); '
            '=> issueproperty(type="required_pcr_mask", value=2);',
            "rule 1:87: .*: configuration property required_pcr_mask has one value",
        ),
        (
            '=> issueproperty(type=AppendString("required_", "mask"), value=1);',
            "rule 1:34: .*: configuration property 'required_mask' is not one of require_valid_aik_cert",
        ),
        (
            '=> issueproperty(type="required_pcr_mask", value=JsonToClaimValue("true"));',
            "rule 1:34: .*: configuration property required_pcr_mask has a value of an integer",
        ),
    ],
)
def test_what_cannot_be_asked_of_the_service(rules: str, problem: str) -> None:
    """Two values of a property, and what is wrong only once it is made, are refused with their rule."""
    with pytest.raises(PolicyError, match=problem):
        _run(_configured(rules), {})


def test_configuration_comes_before_claims() -> None:
    """Configuration is the same for all evidence, since it is evaluated before there is any."""
    policy = _configured(
        '=> issueproperty(type="required_pcr_mask", value=1); '
        '[type=="c"] => issueproperty(type="required_pcr_mask", value=2); '
        'm:[type=="required_pcr_mask"] => issueproperty(claim=m);'
    ).replace("=> permit()", '[type=="c"] && [type=="required_pcr_mask", value==1] => permit()')
    outcome = _run(policy, {"c": 1})
    assert outcome.permitted
    assert outcome.properties == {"required_pcr_mask": 1}


def test_issue_in_authorization_only_adds() -> None:
    """Where authorization issues, later rules see it, and the token does not have it."""
    policy = """version=1.0;
        authorizationrules{ => issue(type="seen", value=1); [type=="seen"] => permit(); };
        issuancerules{ };"""
    outcome = _run(policy, {})
    assert outcome.permitted
    assert outcome.issued == {}


def test_issuance_of_a_refusal_is_not_run() -> None:
    """What a denied attestation would have issued is never made."""
    policy = 'version=1.0; authorizationrules{ => deny(); }; issuancerules{ => issue(type="x", value=1); };'
    assert _run(policy, {}).issued == {}


DOUBLING = "".join(
    f'c:[type=="a{index}"] => add(type="a{index + 1}", value=AppendString(c.value, c.value));'
    for index in range(60)
)
QUERIES = {
    "built lists": " | ".join(["[@, @]"] * 60),
    "built and flattened": " | ".join(["[@, @][]"] * 60),
    "built objects": " | ".join(["{a: @, b: @}"] * 60),
    "written": "to_string(" + " | ".join(["[@, @]"] * 60) + ")",
    "joined": "join(@[0], @[1])",
    "answer": "[" + ",".join(["@"] * 40) + "]",
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_cannot_outgrow_memory(name: str) -> None:
    """A few characters of a query that would write more than any memory holds are refused at once."""
    glue, parts = "x" * 400_000, ",".join(['""'] * 200_000)
    document = f'["{glue}",[{parts}]]'
    policy = """version=1.2; authorizationrules{ => permit(); };
        issuancerules{ d:[type=="doc"] => issue(type="x", value=JmesPath(d.value, "QUERY")); };"""
    with within(2), pytest.raises(PolicyError, match=r"JmesPath: |too much work"):
        _run(policy.replace("QUERY", QUERIES[name]), {"doc": document})


MANY = r"want at most (1000000 steps|8388608 characters)|the answer is more than 4194304 characters"
BOUGHT = {  # each was minutes, or all memory, for a few hundred characters
    "lists in lists": ("[1]", "[*].[@,@,@]|[]|" * 7 + "length(@)"),
    "flattened again and again": ("[1]", "[]|" * 60 + "length(@)"),
    "flattened to nothing": ("[[]]", "[" + ",".join(["@[]"] * 900) + "]"),
    "sliced": ("[1]", "[:]|" * 60 + "length(@)"),
    "quoted": ("[1]", "to_string([@])|" * 60 + "length(@)"),
    "compared": ("[1]", "[*].[" + "[@,@]|" * 8 + "[?@==`[1,2]`]]"),
    "sorted": ("[1]", "sort(@)|" * 60 + "length(@)"),
    "contained": ("[[1]]", "[?contains(`[[1],[1],[1],[1],[1],[1],[1],[1]]`, @)]|" * 60 + "length(@)"),
}


@pytest.mark.parametrize("name", BOUGHT)
def test_a_query_cannot_outlast_patience(name: str) -> None:
    """What a query goes through is counted, whichever of its parts goes: it ends at a bound, and soon."""
    member, query = BOUGHT[name]
    document = "[" + ",".join([member[1:-1]] * 60_000) + "]"
    policy = """version=1.2; authorizationrules{ => permit(); };
        issuancerules{ d:[type=="doc"] => issue(type="x", value=JmesPath(d.value, "QUERY")); };"""
    with within(8), pytest.raises(PolicyError, match=MANY):
        _run(policy.replace("QUERY", query), {"doc": document})


def test_a_refusal_shows_the_first_of_many() -> None:
    """Of many unmet rules, and many values of a claim, a refusal shows some, and states that."""
    rules = "".join(f'[type=="c", value=={n}] => permit();' for n in range(100, 120))
    outcome = _run(f"version=1.0; authorizationrules{{{rules}}};", {"c": list(range(20))})
    with pytest.raises(PolicyError) as caught:
        outcome.require()
    first, *_, last, more = caught.value.message.split("; ")
    values = " or ".join(map(str, range(16)))
    assert first.endswith(f'want [type=="c", value==100], got c is {values} or others')
    assert last.partition(": want ")[2].startswith('[type=="c", value==115], got c is 0 or 1')
    assert more == "and 4 more"


def test_a_refusal_shows_sixteen() -> None:
    """Sixteen of either are shown, and nothing is said of others."""
    rules = "".join(f'[type=="c", value=={n}] => permit();' for n in range(100, 116))
    outcome = _run(f"version=1.0; authorizationrules{{{rules}}};", {"c": list(range(16))})
    with pytest.raises(PolicyError) as caught:
        outcome.require()
    assert caught.value.message.endswith(" or ".join(map(str, range(16))))


def test_texts_cannot_outgrow_memory_together() -> None:
    """Many rules that each make a long text end at one bound."""
    adding = "".join(
        f'c:[type=="c"] => add(type="d", value=AppendString(c.value, "{n}"));' for n in range(100)
    )
    with pytest.raises(
        PolicyError, match="too much work: want at most 8388608 characters that functions make"
    ):
        _run(f"version=1.2; authorizationrules{{ => permit(); {adding} }};", {"c": "x" * 1_000_000})


def test_a_query_is_short() -> None:
    """A query is not made long either, and what is not JSON is neither read nor written."""
    policy = """version=1.2; authorizationrules{ => permit(); };
        issuancerules{
            d:[type=="doc"] && q:[type=="q"] => issue(type="x", value=JmesPath(d.value, q.value)); };"""
    with pytest.raises(PolicyError, match="JmesPath: want a query of at most 4096 characters, got 5001"):
        _run(policy, {"doc": "[]", "q": "@" + "|@" * 2500})
    for document, problem in (("NaN", "want JSON, got NaN"), ("1e999", "not JSON compliant")):
        with pytest.raises(PolicyError, match=f"JmesPath: .*{problem}"):
            _run(policy, {"doc": document, "q": "@"})


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("JsonToClaimValue", r'JsonToClaimValue("[1, \"\ud800\"]")'),
        ("JmesPath", r'JmesPath("[\"\udfffx\"]", "@")'),
        ("JmesPath", r'JmesPath("{}", "`\"\ud800\"`")'),
        ("JmesPath", r'AppendString("a", JmesPath("{\"\ud83d\": 1}", "@"))'),
    ],
)
def test_half_a_character(function: str, value: str) -> None:
    """JSON can spell it but no token can contain it: setting such a policy is refused."""
    policy = f'version=1.2; authorizationrules{{ => permit(); => add(type="x", value={value}); }};'
    with pytest.raises(PolicyError, match=f"policy: {function}: want whole characters, got half of one$"):
        _run(policy, {})


def test_whole_characters_that_are_escaped() -> None:
    """Two halves that are one character are that character."""
    policy = r"""version=1.2; authorizationrules{ => permit(); };
        issuancerules{ => issue(type="x", value=JsonToClaimValue("\"\ud83d\ude00\"")); };"""
    assert _run(policy, {}).issued == {"x": "\U0001f600"}


def test_appending_cannot_outgrow_memory() -> None:
    """Text that is doubled by each rule is refused when it is too long, and not when memory ends."""
    policy = f"version=1.2; authorizationrules{{ => permit(); {DOUBLING} }};"
    with pytest.raises(PolicyError, match="AppendString: want at most 4194304 characters"):
        _run(policy, {"a0": "x"})


def test_too_much_work() -> None:
    """Many rules over many claims end at a bound, and name the rule that passed it."""
    rules = '[value=="none"] => permit();' * 3000
    with pytest.raises(PolicyError, match="the policy is too much work: want at most 2000000 comparisons"):
        _run(f"version=1.0; authorizationrules{{ {rules} }};", {"c": list(range(5000))})
    pairs = 'a:[type=="c"] && [type=="c", value==a.value] => permit();'
    with pytest.raises(PolicyError, match="too much work"):
        _run(f"version=1.0; authorizationrules{{ {pairs} }};", {"c": list(range(5000))})
    with pytest.raises(PolicyError, match="want at most 16384 claims, got 20000"):
        _run('version=1.0; authorizationrules{ [type=="c"] => permit(); };', {"c": list(range(20000))})
    many = ["[" + ",".join(map(str, range(first, first + 10000))) + "]" for first in (0, 10000, 20000)]
    adding = 'd:[type=="NAME"] => add(type="c", value=JsonToClaimValue(d.value));'
    adding = adding.replace("NAME", "a") + adding.replace("NAME", "b")
    with pytest.raises(PolicyError, match="too much work: want at most 16384 claims"):
        _run(f"version=1.2; authorizationrules{{ {adding} }};", {"a": many[0], "b": many[1]})
    with pytest.raises(PolicyError, match="JsonToClaimValue: want at most 16384 values, got 20000"):
        _run(f"version=1.2; authorizationrules{{ {adding} }};", {"a": many[0][:-1] + "," + many[1][1:]})
    reads = "IsSubsetOf(a.value, a.value)"
    for _ in range(8):
        reads = f"IsSubsetOf({reads}, {reads})"
    with pytest.raises(PolicyError, match="too much work: want at most 1000000 steps of functions"):
        _run(
            f'version=1.2; authorizationrules{{ a:[type=="c"] => add(type="d", value={reads}); }};',
            {"c": list(range(10000))},
        )


def test_what_is_compared_with_is_made_when_it_is_asked_for() -> None:
    """A function is not run where no claim meets the tests before it, and once where many do."""
    test = 'd:[type=="doc"] && [type=="CLAIM", value==JmesPath(d.value, "a")] => permit();'
    policy = f"version=1.2; authorizationrules{{ {test} => permit(); }};"
    assert _run(policy.replace("CLAIM", "absent"), {"doc": "{"}).permitted
    with pytest.raises(PolicyError, match=r"rule 1:34: d:\[type.*: policy: JmesPath: "):
        _run(policy.replace("CLAIM", "doc"), {"doc": "{"})
