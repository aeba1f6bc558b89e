"""Which variables of the environment reach a managed agent server. Without Django: the launcher reads it too."""

from __future__ import annotations

from studio.kernel.environment import PERSONAL

MARK = "OPENCODE_STUDIO_SERVER"  # names the studio in the environment of the server and of all that it starts
# Names the directory in which an agent's command was begun, in its environment and that of all that it starts.
COMMAND = "OPENCODE_STUDIO_COMMAND"

# What a server inherits. Everything else, the studio's own secrets first of all, stays out.
INHERITED = (*PERSONAL, "OPENCODE_DISABLE_MODELS_FETCH")
# Keys by which OpenCode finds a provider. The server gets them; the commands of an agent do not.
PROVIDER_KEYS = (
    "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY",
    "OPENROUTER_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY", "XAI_API_KEY", "CEREBRAS_API_KEY",
    "TOGETHER_API_KEY", "FIREWORKS_API_KEY", "PERPLEXITY_API_KEY", "COHERE_API_KEY", "MOONSHOT_API_KEY",
    "DEEPINFRA_API_KEY", "HF_TOKEN", "AZURE_API_KEY", "AZURE_RESOURCE_NAME", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK",
)  # fmt: skip
