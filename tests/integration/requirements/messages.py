"""What the Messages API owes to Anthropic's clients, a sentence each, with their tests."""

from __future__ import annotations

from collections.abc import Mapping

from tests.integration.requirements.chat import Requirement

_CITATIONS = "tests/clients/test_anthropic_citations.py"
_CLAUDE_CODE = "tests/clients/test_claude_code.py"
_CLIENT = "tests/clients/test_anthropic.py"
_DECODE = "tests/unit/http_server/anthropic/messages/test_decode.py"
_DEFERRED = "tests/clients/test_anthropic_deferred_tools.py"
_DIALECT = "tests/unit/http_server/anthropic/test_dialect.py"
_ERRORS = "tests/unit/http_server/anthropic/test_errors.py"
_HISTORY = "tests/unit/http_server/anthropic/messages/test_history.py"
_JAVASCRIPT = "tests/clients/test_anthropic_javascript.py"
_LAUNCHING = "tests/unit/server/test_launching.py"
_LITELLM = "tests/clients/test_litellm.py"
_MODELS = "tests/unit/http_server/anthropic/test_models.py"
_PARITY = "tests/integration/parity/test_messages_api.py"
_STREAM = "tests/unit/http_server/anthropic/messages/test_stream.py"
_THINKING = "tests/unit/core/engine/planning/test_thinking.py"
_TOOLS = "tests/unit/http_server/anthropic/messages/test_tools.py"
_TO_CLAUDE = "tests/unit/core/claude/test_turn_settings.py"

_HONOURED = f"{_DECODE}::test_what_is_honoured_reaches_the_core"
_ALIKE = f"{_STREAM}::test_any_answer_is_the_same_as_events_and_as_a_whole"


def _shown(says: str, *tests: str) -> Requirement:
    return Requirement(says, tests)


PARAMETERS = {
    "messages.param.all_known": _shown(
        "Every parameter of Anthropic's client, betas included, has a treatment.",
        f"{_DECODE}::test_the_table_knows_every_parameter_of_the_client",
        f"{_DECODE}::test_every_parameter_has_a_row_in_the_tests_of_its_treatment",
    ),
    "messages.param.honoured": _shown(
        "What is honoured of a message's request reaches the model.",
        _HONOURED,
        f"{_CLIENT}::test_settings_reach_the_model",
    ),
    "messages.param.neutral": _shown(
        "Null, defaults and hints of a message's request pass without a word.",
        f"{_DECODE}::test_what_changes_nothing_passes_without_a_word",
    ),
    "messages.param.named": _shown(
        "What has no effect on a message is named in the reply.",
        f"{_DECODE}::test_what_has_no_effect_is_named",
        f"{_DIALECT}::test_what_was_ignored_is_named_in_a_header",
    ),
    "messages.param.strict": _shown(
        "In strict mode what would be ignored of a message's request is a 400.",
        f"{_DECODE}::test_what_has_no_effect_is_an_error_in_strict_mode",
        f"{_DIALECT}::test_strict_mode_by_header_and_by_setting",
    ),
    "messages.param.refused": _shown(
        "What cannot be done for a message is refused by its field.",
        f"{_DECODE}::test_what_cannot_be_done_is_refused",
    ),
    "messages.param.thread": _shown(
        "A thread is refused by the reason for which clients go on without one.",
        f"{_DECODE}::test_a_thread_is_refused_by_the_reason_that_clients_go_on_without_one_for",
        f"{_CLIENT}::test_the_tool_runner",
    ),
    "messages.param.wrong": _shown(
        "A wrong value of a message's request is a 400 that names its field as it was written.",
        f"{_DECODE}::test_a_wrong_value_names_its_field",
        f"{_DECODE}::test_a_field_of_the_core_has_its_name_here",
    ),
    "messages.param.effort": _shown(
        "Thinking may be off with any effort that the model takes without it.",
        f"{_CLIENT}::test_thinking_off_with_an_effort",
        f"{_TO_CLAUDE}::test_thinking_may_be_off_with_an_effort",
    ),
    "messages.param.output_format": _shown(
        "A schema in `output_config` gives an answer of that JSON.",
        _HONOURED,
        f"{_CLIENT}::test_an_answer_is_parsed",
    ),
    "messages.param.cache_control": _shown(
        "The last breakpoint of the caller's stands in its place; the others are named.",
        f"{_HISTORY}::test_the_last_breakpoint_is_kept_and_the_others_are_named",
        f"{_HISTORY}::test_a_breakpoint_where_none_can_be_set_gives_way_to_the_one_before",
        f"{_HISTORY}::test_breakpoints_within_the_system_prompt_and_the_tools_are_named",
        f"{_TO_CLAUDE}::test_the_callers_breakpoint_stands_where_it_was_in_place_of_the_bridges_own",
        f"{_CLIENT}::test_the_callers_breakpoint_reaches_the_model",
    ),
}

INPUT = {
    "messages.input.system": _shown(
        "The system prompt comes as text or as blocks, without Claude Code's attribution.",
        _HONOURED,
        f"{_HISTORY}::test_blocks_of_the_system_prompt_are_joined_without_the_attribution",
    ),
    "messages.input.system_messages": _shown(
        "System messages among the messages keep their place.",
        f"{_HISTORY}::test_a_system_message_among_the_others_keeps_its_place",
    ),
    "messages.input.media": _shown(
        "Images and documents come by data, by address and as text.",
        f"{_DECODE}::test_media_by_data_by_address_and_by_text",
        f"{_CLIENT}::test_images_and_documents",
    ),
    "messages.input.citations": _shown(
        "Documents in pieces and search results reach the model as they are, to be cited or not.",
        f"{_DECODE}::test_documents_in_pieces_and_search_results",
        f"{_DECODE}::test_an_answer_cites_what_any_message_asks_it_to",
        f"{_TO_CLAUDE}::test_pieces_and_search_results_go_in_one_by_one",
        f"{_CITATIONS}::test_documents_in_pieces_and_search_results_reach_the_model_as_they_are",
        f"{_CITATIONS}::test_search_results_of_a_tool_reach_the_model_as_they_are",
        f"{_CITATIONS}::test_an_answer_goes_back_as_its_blocks_without_their_citations",
        f"{_CITATIONS}::test_citations_exclude_a_format",
    ),
    "messages.input.top_k": _shown(
        "`top_k` reaches the models that take it and is named for the others.",
        _HONOURED,
        f"{_CLIENT}::test_top_k_reaches_the_model",
    ),
    "messages.input.tools": _shown(
        "Tools, the choice among them and deferred ones are taken as Anthropic's.",
        f"{_TOOLS}::test_tool_choices",
        f"{_TOOLS}::test_a_deferred_tool_is_on_offer_once_a_search_has_found_it",
        f"{_DEFERRED}::test_a_deferred_tool_is_called_once_a_reference_names_it",
        f"{_DEFERRED}::test_a_search_that_the_server_lacks_puts_all_tools_on_offer",
        f"{_CLIENT}::test_a_forced_tool",
    ),
    "messages.input.thinking": _shown(
        "Thinking that is sent back reaches the model that wrote it, and no other.",
        f"{_THINKING}::test_a_model_gets_its_own_thinking_and_no_others",
        f"{_CLIENT}::test_an_answer_is_sent_back_with_its_thinking",
    ),
    "messages.input.continued": _shown(
        "A conversation with thinking and calls goes on in its process.",
        f"{_CLIENT}::test_a_conversation_goes_on_in_its_process",
    ),
}

REPLIES = {
    "messages.reply.alike": _shown(
        "The events of a message add up to the message as a whole; both fit the client's types.",
        _ALIKE,
        f"{_CLIENT}::test_a_message",
        f"{_CLIENT}::test_a_stream_by_its_helper",
        f"{_CLIENT}::test_the_async_client",
    ),
    "messages.reply.citations": _shown(
        "An answer has its citations, each with the text it belongs to.",
        f"{_STREAM}::test_citations_are_part_of_their_block",
        f"{_CITATIONS}::test_an_answer_has_its_citations",
    ),
    "messages.reply.litellm": _shown(
        "LiteLLM's provider for Anthropic reads an answer, a stream, calls, thinking and an error.",
        f"{_LITELLM}::test_it_reads_answers_streams_calls_thinking_and_errors",
    ),
    "messages.reply.javascript": _shown(
        "Anthropic's client for JavaScript reads a message, a stream and an error.",
        f"{_JAVASCRIPT}::test_it_reads_a_message_a_stream_and_an_error",
    ),
    "messages.reply.parity": _shown(
        "A message is what a chat completion of the same request is, upstream too.",
        "tests/integration/parity/test_parity.py::test_all_apis_answer_alike",
    ),
    "messages.reply.events": _shown(
        "Every event of a message has its name, and silence is filled with pings.",
        f"{_CLIENT}::test_every_event_of_a_stream_has_its_name",
        f"{_STREAM}::test_silence_is_filled_with_pings",
    ),
    "messages.reply.usage": _shown(
        "Usage has the cache's details, with the prompt's tokens at the start of a stream.",
        f"{_STREAM}::test_the_tokens_of_the_prompt_come_first_and_all_of_them_last",
    ),
    "messages.reply.stop_reason": _shown(
        "Stop reasons are the model's own, with their details.",
        f"{_STREAM}::test_stop_reasons_are_the_models_own",
    ),
    "messages.reply.left": _shown(
        "A stream of a message that is left frees its session.",
        f"{_CLIENT}::test_a_stream_that_is_left_frees_its_session",
    ),
    "messages.reply.count": _shown(
        "The tokens of a message's request are counted without an answer.",
        f"{_DIALECT}::test_the_tokens_of_a_request_are_counted_without_a_limit_of_the_answer",
        f"{_CLIENT}::test_tokens_are_counted",
    ),
    "messages.reply.models": _shown(
        "Models are listed in Anthropic's shape, in pages, to whoever speaks its API.",
        f"{_MODELS}::test_pages",
        f"{_DIALECT}::test_the_request_says_whose_url_it_is_where_both_have_it",
        f"{_CLIENT}::test_models",
    ),
}

ERRORS = {
    "messages.error.types": _shown(
        "Every error has a type, a status and an id that Anthropic's client knows.",
        f"{_ERRORS}::test_every_error_has_a_type_that_the_client_knows",
        f"{_ERRORS}::test_statuses_and_types",
        f"{_CLIENT}::test_errors_are_the_clients_own",
        "tests/integration/parity/test_parity.py::test_all_apis_answer_alike",
        f"{_PARITY}::test_whole_answers_fail_alike",
    ),
    "messages.error.broken": _shown(
        "A stream of a message that breaks ends in an `error` event and no `message_stop`.",
        f"{_STREAM}::test_a_stream_that_breaks_ends_in_its_error_and_no_end_of_the_message",
        f"{_CLIENT}::test_an_answer_that_breaks_is_an_error",
    ),
    "messages.error.key": _shown(
        "A key comes as `x-api-key` or as a bearer's; a wrong one is a 401.",
        f"{_DIALECT}::test_a_key_comes_by_either_header",
    ),
    "messages.error.limit": _shown(
        "A limit of the plan has the headers by which Anthropic says when it resets.",
        f"{_ERRORS}::test_a_limit_of_the_plan_says_when_it_resets",
    ),
    "messages.error.absent": _shown(
        "What Anthropic serves and this server does not is a 404 that says so.",
        f"{_DIALECT}::test_what_anthropic_has_and_this_server_has_not_is_said",
    ),
}

CLAUDE_CODE = {
    "messages.claude_code.answers": _shown(
        "Claude Code answers through the bridge, by either kind of key.",
        f"{_CLAUDE_CODE}::test_it_answers",
    ),
    "messages.claude_code.tools": _shown(
        "Claude Code uses its own tools through the bridge.",
        f"{_CLAUDE_CODE}::test_it_uses_its_own_tools",
    ),
    "messages.claude_code.search": _shown(
        "Claude Code searches for tools whose definitions it defers, and calls one.",
        f"{_CLAUDE_CODE}::test_it_searches_for_tools_that_are_deferred",
    ),
    "messages.claude_code.key": _shown(
        "Claude Code is told that its key is wrong, and needs none to ask for a server.",
        f"{_CLAUDE_CODE}::test_it_is_told_that_its_key_is_wrong",
        f"{_DIALECT}::test_claude_code_may_ask_without_a_key_whether_a_server_is_there",
    ),
    "messages.claude_code.no_loop": _shown(
        "A server whose own Claude Code would ask it does not start.",
        f"{_LAUNCHING}::test_the_servers_own_address_is_refused",
    ),
}

REQUIREMENTS: Mapping[str, Requirement] = {
    **PARAMETERS,
    **INPUT,
    **REPLIES,
    **ERRORS,
    **CLAUDE_CODE,
}
