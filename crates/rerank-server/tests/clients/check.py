"""Third-party clients against a running server: `check.py http://HOST:PORT HOST:PORT` (HTTP, gRPC).

Each check uses a client as its own documentation shows it. A client that is not installed is a failure: a check that
was skipped proves nothing. `requirements.txt` lists what is needed.
"""

import sys

QUERY = "how many people live in berlin"
DOCUMENTS = [
    "Rome has two airports.",
    "How many people live in Berlin? About 3.7 million people.",
    "Berlin is green.",
]
BEST = 1


def cohere_v2(http, _):
    import cohere

    client = cohere.ClientV2(api_key="unused", base_url=http)
    answer = client.rerank(model="any", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [place.index for place in answer.results][0] == BEST, answer
    assert len(answer.results) == 2, answer
    assert answer.id, answer


def cohere_v1(http, _):
    import cohere

    client = cohere.Client(api_key="unused", base_url=http)
    documents = [{"text": text, "title": "kept apart"} for text in DOCUMENTS]
    answer = client.rerank(model="any", query=QUERY, documents=documents, return_documents=True)
    assert answer.results[0].index == BEST, answer
    assert answer.results[0].document.text == DOCUMENTS[BEST], answer


def cohere_reads_our_errors(http, _):
    import cohere

    client = cohere.ClientV2(api_key="unused", base_url=http)
    try:
        client.rerank(model="any", query="", documents=DOCUMENTS)
    except cohere.errors.BadRequestError as error:
        assert error.body["error"] == "the query is empty", error.body
    else:
        raise AssertionError("an empty query was accepted")


def llama_index_tei(http, _):
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in DOCUMENTS]
    reranker = TextEmbeddingInference(base_url=http, top_n=2)
    ranked = reranker.postprocess_nodes(nodes, query_bundle=QueryBundle(QUERY))
    assert [node.node.get_content() for node in ranked][0] == DOCUMENTS[BEST], ranked
    assert len(ranked) == 2, ranked


def huggingface_hub_tei(http, _):
    """The hub's client has no rerank task; its transport, retries and error reading are what TEI's users share."""
    from huggingface_hub.utils import get_session, hf_raise_for_status

    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "truncate": True, "return_text": True}
    response = get_session().post(f"{http}/rerank", json=body)
    hf_raise_for_status(response)
    ranked = response.json()
    assert ranked[0]["index"] == BEST and ranked[0]["text"] == DOCUMENTS[BEST], ranked
    assert [place["score"] for place in ranked] == sorted((place["score"] for place in ranked), reverse=True)


def grpc_by_reflection(_, address):
    """As grpcurl does it: no generated code, everything learned from the server."""
    import grpc
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "rerank.v1.Rerank" in database.get_services()
        method = DescriptorPool(database).FindServiceByName("rerank.v1.Rerank").FindMethodByName("Rerank")
        request_type, answer_type = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/rerank.v1.Rerank/Rerank",
            request_serializer=request_type.SerializeToString,
            response_deserializer=answer_type.FromString,
        )
        answer, state = call.with_call(request_type(query=QUERY, documents=DOCUMENTS, top_n=2), timeout=10)
        assert [place.index for place in answer.results][0] == BEST, answer
        trailers = dict(state.trailing_metadata())
        assert "compute;dur=" in trailers["server-timing"], trailers
        try:
            call(request_type(query="", documents=DOCUMENTS), timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
            assert error.details() == "the query is empty", error
        else:
            raise AssertionError("an empty query was accepted")


def grpc_health(_, address):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service="rerank.v1.Rerank"), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer


CHECKS = [
    cohere_v2,
    cohere_v1,
    cohere_reads_our_errors,
    llama_index_tei,
    huggingface_hub_tei,
    grpc_by_reflection,
    grpc_health,
]


def main():
    http, address = sys.argv[1:]
    failed = 0
    for check in CHECKS:
        try:
            check(http, address)
            print(f"ok      {check.__name__}")
        except Exception as error:  # every client raises its own
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
