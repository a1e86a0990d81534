PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# faiss on an NVIDIA GPU: make setup EXTRAS=demo,faiss-gpu,onnx
EXTRAS ?= demo,cpu,onnx

.PHONY: setup demo test check docs faults bench clean

setup: $(VENV)/.$(EXTRAS)

# the tested versions; elsewhere any that setup.cfg allows, and so for faiss-gpu, which needs an older PyTorch than the tested one
$(VENV)/.%: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@case "$*" in *faiss-gpu*) other=faiss-cpu ;; *) other=faiss-gpu ;; esac; \
	if $(BIN)/python -m pip show --quiet $$other 2> /dev/null; then \
		echo "$(VENV) has $$other, which .[$*] would break: make clean first, or take another checkout" >&2; exit 2; \
	fi
	case "$*" in *faiss-gpu*) tested= ;; *) tested="--constraint constraints.txt" ;; esac; \
	$(BIN)/python -m pip install --quiet $$tested --editable ".[$*]"
	touch "$@"

# under four minutes on two cores, after installation: a teacher, its student, and how much of the teacher it keeps
demo: setup
	experiments/quickstart/run.sh

test: $(VENV)/.dev,cpu check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev,cpu
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy distill

# the pages of docs/, into site/; a broken link or a docstring that cannot be read is an error
docs: $(VENV)/.docs,cpu
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# random kills and other accidents; the same results as ever must come out. FAULT_KILLS says how many
faults: $(VENV)/.dev,cpu
	FAULT_KILLS=$${FAULT_KILLS:-200} $(BIN)/python -m pytest tests/faults -s

# make bench DATA=folder, which holds msmarco-dl and questions
bench: $(VENV)/.dev,cpu
	experiments/speed/run.sh $(DATA)

# keeps runs/, where results are
clean:
	rm -rf $(VENV) site
