"""The likeliest token at each step."""

from gptft.decoding import define

METHOD = define.Method(
    strategies=(
        define.Strategy(
            name="greedy",
            description="Takes the likeliest token at each step.",
            source="No paper: the argmax of p(token | text so far).",
            takes=(define.ALWAYS,),
            when_drawing="temperature",
        ),
    )
)
