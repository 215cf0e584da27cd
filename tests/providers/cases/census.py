"""Census. A secret in a header, nothing signed; its calls with a source key are in tests/reverse_etl."""

from tests.providers.case import Case, Vector
from tests.providers.reverse_etl import OUTCOMES

case = Case(
    secrets=("sesame", "tahini"),
    vectors=(Vector("sesame", b"{}", {"authorization": "Bearer sesame"}),),
    outcomes=OUTCOMES,
)
