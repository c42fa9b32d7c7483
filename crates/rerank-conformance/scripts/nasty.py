"""Texts that tokenizers disagree about, and the pairs of them that fixtures are made of."""

LONG_WORDS = [
    "river", "granite", "Berlin", "index", "planner", "quartz", "lantern", "vector", "harbour", "syntax", "meadow",
    "tensor", "ribbon", "gradient", "cathedral", "socket", "pepper", "function", "glacier", "commit", "violin",
]

TEXTS = {
    "empty": "",
    "space": " ",
    "whitespace": " \t\r\n\u00a0\u2003\u3000 ",
    "plain": "How many people live in Berlin?",
    "answer": "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "word": "Berlin",
    "letter": "a",
    "punctuation": "...!?!?;;;---___\u2014\u2026\u00ab\u00bb\u201c\u201d'''\"\"\"(([[{{}}]]))#@$%^&*",
    "accents": "Cr\u00e8me br\u00fbl\u00e9e, na\u00efve fa\u00e7ade, \u00c5ngstr\u00f6m, Stra\u00dfe, \u0130stanbul, \u0141\u00f3d\u017a",
    "combining": "e\u0301 a\u0308\u0301 n\u0303 o\u0302\u0323 \u1e9b\u0323 Z\u0351\u036b\u0343a\u0329\u0345l\u0322\u031bg\u034f\u0361o",
    "emoji": "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \u2764\ufe0f \U0001f1e9\U0001f1ea 1\ufe0f\u20e3 text \U0001f9ec.",
    "cjk": "\u67cf\u6797\u662f\u5fb7\u56fd\u7684\u9996\u90fd\u3002\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\uc11c\uc6b8\uc740 \ud55c\uad6d\uc758 \uc218\ub3c4\uc785\ub2c8\ub2e4.",
    "cjk_outside_bmp": "\U00020000\U0002a6d6 \U00020bb7\u91ce\u5bb6 mixed \ufa0e\uff21\uff22\uff23\uff11\uff12",
    "rtl": "\u05d1\u05e8\u05dc\u05d9\u05df \u05d4\u05d9\u05d0 \u05d1\u05d9\u05e8\u05ea \u05d2\u05e8\u05de\u05e0\u05d9\u05d4. \u0628\u0631\u0644\u064a\u0646 \u0639\u0627\u0635\u0645\u0629 \u0623\u0644\u0645\u0627\u0646\u064a\u0627 \u0661\u0662\u0663 \u202bmixed\u202c",
    "indic": "\u092c\u0930\u094d\u0932\u093f\u0928 \u091c\u0930\u094d\u092e\u0928\u0940 \u0915\u0940 \u0930\u093e\u091c\u0927\u093e\u0928\u0940 \u0939\u0948 \u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e\u0e21\u0e2b\u0e32\u0e19\u0e04\u0e23",
    "control": "nul\x00bell\x07esc\x1b[31mred\x1b[0m del\x7f next\x85line \x0b\x0c bom\ufeff end",
    "invisible": "zero\u200bwidth soft\u00adhyphen word\u2060joiner lrm\u200e rlm\u200f \u2028\u2029 replacement \ufffd private \ue000 \U0010ffff",
    "special_bert": "[CLS] what is [SEP] a [MASK] token [PAD] here [UNK] [sep][SEP][SEP]",
    "special_roberta": "<s> what is </s></s> a <mask> token <pad> here <unk> </S> < s ></s>",
    "long_word": "pneumono" * 40,
    "over_wordpiece_limit": "x" * 101 + " " + "y" * 100,
    "digits": "3.14159265358979323846 1,000,000 0xDEADBEEF 10^-12 \u00bd \u2163 \u00b2 1e-5 192.168.0.1 2026-01-31T23:59:59Z",
    "code": "fn main() -> Result<(), Box<dyn Error>> {\n\tlet x = &mut v[i..=j];\n\tprintln!(\"{x:?}\\n\");\n}",
    "contractions": "I'd've said they're can't won't it's o'clock D'Artagnan's 'tis \u2019s",
    "urls": "https://example.org/a/b?c=d&e=%20f#g mailto:x.y+z@sub.example.co.uk C:\\path\\to\\file.txt",
    "mixed": "Berlin \u67cf\u6797 \u05d1\u05e8\u05dc\u05d9\u05df \U0001f600 e\u0301\x07 <s> [SEP] 3.5 Stra\u00dfe\u3000END",
    "ligatures": "\ufb01ne \ufb04uent \u2460\u2461 \u33a1 \u210c\u2102 \U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8 \uff48\uff45\uff4c\uff4c\uff4f",
    "spaces_inside": "  leading,  double   triple    and trailing   ",
    "case": "ALL CAPS camelCase PascalCase snake_case KEBAB-case i\u0307 I\u0307 \u01c5 \u1e9e \u03a3\u03c2\u03c3",
    "long_query": " ".join(f"which {word} is {index} steps from the other {word}" for index, word in enumerate(LONG_WORDS * 3)),
    "words_5000": " ".join(
        LONG_WORDS[(index * index + 7 * index) % len(LONG_WORDS)] + ("," if index % 13 == 0 else "")
        for index in range(5000)
    ),
}

# Every text as a document under a plain query; every text as a query over a plain answer; then what lengths make hard.
PAIRS = (
    [("plain", name) for name in TEXTS]
    + [(name, "answer") for name in TEXTS if name not in ("plain", "answer")]
    + [
        ("empty", "empty"),
        ("empty", "words_5000"),
        ("words_5000", "empty"),
        ("words_5000", "words_5000"),
        ("long_query", "word"),
        ("long_query", "long_query"),
        ("long_query", "words_5000"),
        ("letter", "letter"),
        ("emoji", "cjk"),
        ("special_bert", "special_bert"),
        ("special_roberta", "special_roberta"),
    ]
)

# Documents of the parity set's last request: short enough to read, odd enough to show a tokenizer that differs.
PARITY = [
    "answer", "empty", "word", "accents", "combining", "emoji", "cjk", "rtl", "control", "special_bert", "long_word",
    "code", "mixed", "words_5000",
]
